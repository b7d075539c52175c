//! How long does an Instance take on a Network that OVN carries, beside one that libvirt carries?

use std::fmt::Write as _;
use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, Client};
use virga_crds::Network;
use virga_lab::{Administered, Lab};

use super::Error;
use super::instances::{self, Starts};
use super::page::{self, ms};
use super::quantile::quantile;
use crate::file;
use crate::sections::Section;

/// The section's title.
pub const TITLE: &str = "Networks on OVN and on libvirt";
/// Where the chart is.
const SYSTEM: &str = "virga-system";
const ROLL_OUT: &str = "--timeout=180s";
/// How much longer an Instance may take on OVN.
const GOAL: Duration = Duration::from_millis(200);

/// The same starts, carried by libvirt and by OVN.
pub struct Backends {
    libvirt: Starts,
    ovn: Starts,
}

/// Measures one after the other in a lab without Networks, whose back end it sets; OVN stays.
pub async fn measure(lab: &Lab, client: &Client, rounds: u16) -> Result<Backends, Error> {
    let ovn = lab.ovn().map_err(Error::Lab)?;
    let networks = Api::<Network>::all(client.clone());
    let networks = networks.list_metadata(&ListParams::default().limit(1)).await;
    if !networks.map_err(Error::api("listing Networks"))?.items.is_empty() {
        return Err(Error::Networks);
    }
    println!("networks on libvirt");
    set(lab, &["--set=network.backend=libvirt".to_owned()])?;
    let libvirt = instances::starts(lab, client, rounds).await;
    println!("networks on OVN");
    // Also after a failure: the lab is left as it was found.
    let secret = ovn.secret(SYSTEM)?;
    lab.kubectl(&["apply", "--filename", &secret.display().to_string()])
        .map_err(Error::Lab)?;
    set(lab, &ovn.chart_settings())?;
    let libvirt = libvirt?;
    let ovn = instances::starts(lab, client, rounds).await?;
    Ok(Backends { libvirt, ovn })
}

/// Upgrades the chart with these settings, and waits until all of it is ready.
fn set(lab: &Lab, settings: &[String]) -> Result<(), Error> {
    let chart = file::checkout().join("charts/virga");
    let chart = chart.display().to_string();
    let mut args = vec![
        "upgrade",
        "virga",
        &chart,
        "--namespace",
        SYSTEM,
        "--reuse-values",
        "--wait",
        ROLL_OUT,
    ];
    args.extend(settings.iter().map(String::as_str));
    lab.helm(&args).map(drop).map_err(Error::Lab)
}

impl Backends {
    /// What the page says of it.
    pub fn section(&self, measured: &str) -> Section {
        page::section(TITLE, |page| self.write(page, measured))
    }

    fn write(&self, page: &mut String, measured: &str) -> std::fmt::Result {
        writeln!(
            page,
            "{measured}\n\nOne Instance after the other as [above](#from-create-to-running), first with Networks that libvirt \
             carries, then the same on OVN: the chart is upgraded in between. libvirt's own time is that of the same domain, \
             started by virsh; on OVN its interface becomes a port of Open vSwitch, for which libvirt runs `ovs-vsctl`.\n"
        )?;
        writeln!(
            page,
            "| | median | 95th percentile | longest | n |\n|---|---:|---:|---:|---:|"
        )?;
        for (name, times) in [
            ("create to Active and Ready, on libvirt", &self.libvirt.virga),
            ("create to Active and Ready, on OVN", &self.ovn.virga),
            ("define and start by virsh, on libvirt", &self.libvirt.libvirt),
            ("define and start by virsh, on OVN", &self.ovn.libvirt),
        ] {
            let [half, most, longest] = [50, 95, 100].map(|percent| ms(times, percent));
            writeln!(page, "| {name} | {half} | {most} | {longest} | {} |", times.len())?;
        }
        let halves = (quantile(&self.ovn.virga, 50), quantile(&self.libvirt.virga, 50));
        if let (Some(ovn), Some(libvirt)) = halves {
            let more = if ovn < libvirt { "less" } else { "more" };
            writeln!(
                page,
                "\nIn the median an Instance takes {} ms {more} on OVN; the goal is {} ms more at most.",
                ovn.abs_diff(libvirt).as_millis(),
                GOAL.as_millis()
            )?;
        }
        writeln!(
            page,
            "\nThe agent's steps, by its own clock:\n\n| step | on libvirt | on OVN |\n|---|---:|---:|"
        )?;
        for (step, mean) in &self.libvirt.steps {
            let other = self.ovn.steps.iter().find(|(other, _)| other == step);
            let other = other.map_or_else(String::new, |(_, mean)| format!("{} ms", mean.as_millis()));
            writeln!(page, "| `{step}` | {} ms | {other} |", mean.as_millis())?;
        }
        Ok(())
    }
}
