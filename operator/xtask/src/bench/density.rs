//! What does an agent take with many Instances that do nothing?

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Api;
use kube::api::PostParams;
use virga_crds::{Instance, InstanceState, PowerState};

use super::stage::seen::Watched;
use super::stage::{self, Driver, Stage, processor};
use super::{Error, is_ready, page};
use crate::sections::Section;

/// The section's title.
pub const TITLE: &str = "An agent with many Instances";
/// Until all of them are there.
const LIMIT: Duration = Duration::from_mins(10);
/// Until what follows from a create is written, and allocators have given back what they will.
const QUIET: Duration = Duration::from_secs(20);
/// For how long the processor time is counted.
const REST: Duration = Duration::from_mins(1);
/// How many are created at once.
const AT_ONCE: usize = 8;
/// The budget for each Instance, in KiB.
const BUDGET: u64 = 100;

/// What one agent takes with the domains of each driver.
pub struct Density {
    of: [Taken; 2],
}

/// What one agent takes with the domains of a driver.
struct Taken {
    driver: Driver,
    instances: u16,
    /// Its memory without Instances and with all of them, in KiB.
    pss: [u64; 2],
    /// Its processor time while it rests, and the libvirtd's, likewise.
    rest: [[Duration; 2]; 2],
    /// From the first create until all of them were there.
    all: Duration,
}

/// Measures on a stage of its own for each driver: so many guests of QEMU that stand still, so many of the test driver.
pub async fn measure(paused: u16, described: u16) -> Result<Density, Error> {
    Ok(Density {
        of: [
            taken(Driver::Qemu, paused).await?,
            taken(Driver::Test, described).await?,
        ],
    })
}

async fn taken(driver: Driver, count: u16) -> Result<Taken, Error> {
    let stage = Stage::with(driver).await?;
    let watched = Watched::begin(stage.instances()).await?;
    let (empty, idle) = at_rest(&stage).await;
    println!("{count} Instances that stand still");
    let (watched, stage_ref) = (&watched, &stage);
    let began = Instant::now();
    let making = stream::iter(0..count).map(|n| async move {
        let clients = &stage_ref.cloud.clients;
        let api = Api::<Instance>::namespaced(clients[usize::from(n) % clients.len()].clone(), stage::NAMESPACE);
        let name = format!("many-{n:04}");
        let mut instance = stage::instance(&name);
        instance.spec.power_state = PowerState::Paused;
        let made = api.create(&PostParams::default(), &instance).await;
        made.map_err(Error::api("creating an Instance"))?;
        let there = |seen: &Instance| {
            let status = seen.status.as_ref();
            status.is_some_and(|status| status.state == Some(InstanceState::Paused) && is_ready(&status.conditions))
        };
        let there = watched.until(&name, began, LIMIT, |seen| seen.is_some_and(there)).await;
        there.map(drop)
    });
    making.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let all = began.elapsed();
    println!("all of them are there after {} s", all.as_secs());
    let (full, busy) = at_rest(&stage).await;
    Ok(Taken {
        driver,
        instances: count,
        pss: [empty, full],
        rest: [idle, busy],
        all,
    })
}

/// The agent's memory in KiB, and the processor time of a minute: its and the libvirtd's.
async fn at_rest(stage: &Stage) -> (u64, [Duration; 2]) {
    tokio::time::sleep(QUIET).await;
    let pid = stage.agent.pid();
    let inside = stage.node.shell("readlink /proc/self/ns/net");
    let times = || [processor::time(pid), processor::time_of("libvirtd", inside.trim())];
    let before = times();
    tokio::time::sleep(REST).await;
    let [agent, libvirtd] = times();
    let rest = [agent.saturating_sub(before[0]), libvirtd.saturating_sub(before[1])];
    (processor::pss_kib(pid), rest)
}

impl Taken {
    /// In KiB.
    fn each(&self) -> u64 {
        let [empty, full] = self.pss;
        full.saturating_sub(empty) / u64::from(self.instances).max(1)
    }
}

impl Density {
    /// What the page says of it.
    pub fn section(&self, measured: &str) -> Section {
        page::section(TITLE, |page| self.write(page, measured))
    }

    fn write(&self, page: &mut String, measured: &str) -> std::fmt::Result {
        writeln!(
            page,
            "{measured} Controller and agent are release builds.\n\n\
             One agent on a real API server; each Instance has one interface, and stands still; {AT_ONCE} were created at once. \
             Memory is the proportional set size. Processor time is that of {} s in which nobody asks for anything, {} s \
             after the last of them was there, in percent of one processor. QEMU's guests are domains of a libvirtd. Those of \
             libvirt's test driver are descriptions in the agent's own process, so their memory is counted as the agent's; \
             all else of the agent is as ever: its watches, disks and seeds, DHCP hosts, events, and what it measures.\n",
            REST.as_secs(),
            QUIET.as_secs()
        )?;
        writeln!(
            page,
            "| domains of | Instances | all there after | memory | an Instance | processor | libvirtd's |\n\
             |---|---:|---:|---:|---:|---:|---:|"
        )?;
        for taken in &self.of {
            let name = match taken.driver {
                Driver::Qemu => "QEMU",
                Driver::Test => "the test driver",
            };
            let percent = |rest: Duration| format!("{:.2} %", rest.as_secs_f64() / REST.as_secs_f64() * 100.0);
            for (full, pss, [agent, libvirtd]) in [
                (false, taken.pss[0], taken.rest[0]),
                (true, taken.pss[1], taken.rest[1]),
            ] {
                let (count, all, each) = if full {
                    let all = format!("{:.0} s", taken.all.as_secs_f64());
                    (taken.instances, all, format!("{} KiB", taken.each()))
                } else {
                    (0, String::new(), String::new())
                };
                let libvirtd = match taken.driver {
                    Driver::Qemu => percent(libvirtd),
                    Driver::Test => String::new(),
                };
                let (pss, agent) = (page::mib(pss), percent(agent));
                writeln!(
                    page,
                    "| {name} | {count} | {all} | {pss} MiB | {each} | {agent} | {libvirtd} |"
                )?;
            }
        }
        writeln!(page, "\nThe budget is {BUDGET} KiB for each Instance.")
    }
}
