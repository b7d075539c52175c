//! How long does an Instance take when many are created soon after each other, and how long does virsh take for the same?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use kube::api::{DeleteParams, PostParams};
use virga_crds::Instance;

use super::Error;
use super::instances::is_running;
use super::libvirt::{Own, overlay};
use super::page::{self, ms};
use super::quantile::quantile;
use super::stage::node::Node;
use super::stage::seen::Watched;
use super::stage::{self, Stage, processor, virsh};
use super::writes::Writes;
use crate::sections::Section;
use crate::{command, file};

/// The section's title.
pub const TITLE: &str = "Many Instances soon after each other";
/// From one create to the next.
const APART: Duration = Duration::from_millis(100);
/// Until the last of them runs; libvirt alone is most of it.
const LIMIT: Duration = Duration::from_mins(3);
/// Until guests that were just made are through with their firmware, and the machine is quiet again.
const QUIET: Duration = Duration::from_secs(8);
/// How many are deleted at once.
const FIRST: &str = "first";
/// What the goal is, in hundredths of what virsh takes.
const GOAL: u32 = 120;

/// What was measured.
pub struct Burst {
    /// From the create to Active and Ready in a watch.
    virga: Vec<Duration>,
    /// From the create to its answer.
    created: Vec<Duration>,
    /// From the start of qemu-img to the end of virsh.
    libvirt: Vec<Duration>,
    /// From the first create until all of them ran.
    all: [Duration; 2],
    /// The mean of the agent's steps.
    steps: Vec<(&'static str, Duration)>,
    /// Processor time of each process, by its name: for virsh's domains, and for Instances.
    processor: Vec<(&'static str, [Duration; 2])>,
    /// Writes of the API, by resource.
    writes: BTreeMap<String, u64>,
}

/// Measures on a stage of its own.
pub async fn measure(count: u16) -> Result<Burst, Error> {
    let stage = Stage::up().await?;
    let watched = Watched::begin(stage.instances()).await?;
    let began = Instant::now();
    stage::make(&stage.instances(), &stage::instance(FIRST)).await?;
    watched
        .until(FIRST, began, stage::LIMIT, |seen| seen.is_some_and(is_running))
        .await?;
    // It keeps the network up, and its image in the cache.
    let uid = stage
        .instances()
        .get(FIRST)
        .await
        .map_err(Error::api("reading an Instance"))?;
    let twins = Twins::of(&stage.node, &uid.uid().unwrap_or_default(), count)?;
    tokio::time::sleep(QUIET).await;
    println!("{count} domains of virsh's, {} ms apart", APART.as_millis());
    let bare = processor_time(&stage);
    let libvirt = twins.start().await?;
    let bare = since(&bare, &processor_time(&stage));
    twins.remove()?;
    tokio::time::sleep(QUIET).await;
    println!("{count} Instances, {} ms apart", APART.as_millis());
    let steps = stage.agent.effects();
    let before = processor_time(&stage);
    let writes = Writes::now(&stage.client()).await?;
    let (created, virga, all) = create(&stage, &watched, count).await?;
    let after = processor_time(&stage);
    tokio::time::sleep(QUIET).await;
    let writes = Writes::now(&stage.client()).await?.since(&writes);
    for n in 0..count {
        let deleted = stage.instances().delete(&name(n), &DeleteParams::background()).await;
        deleted.map_err(Error::api("deleting an Instance"))?;
    }
    Ok(Burst {
        all: [libvirt.1, all],
        libvirt: libvirt.0,
        steps: stage.agent.effects().since(&steps),
        processor: bare
            .into_iter()
            .zip(since(&before, &after))
            .map(|((name, bare), (_, virga))| (name, [bare, virga]))
            .collect(),
        writes,
        virga,
        created,
    })
}

fn processor_time(stage: &Stage) -> Vec<(&'static str, Duration)> {
    let network = |path: std::io::Result<std::path::PathBuf>| path.unwrap_or_default().display().to_string();
    let ours = network(std::fs::read_link("/proc/self/ns/net"));
    let node = stage.node.shell("readlink /proc/self/ns/net");
    let mut times = vec![
        ("virga-agent", processor::time(stage.agent.pid())),
        ("virga-controller", processor::time(stage.controller.pid())),
        ("the bench", processor::time(std::process::id())),
        ("nobody", processor::idle()),
    ];
    times.extend(["kube-apiserver", "etcd"].map(|name| (name, processor::time_of(name, &ours))));
    times.extend(
        ["libvirtd", "dnsmasq", "virtlogd", "qemu-system"].map(|name| (name, processor::time_of(name, node.trim()))),
    );
    times
}

/// What came after `before`; what has ended meanwhile is not known.
fn since(before: &[(&'static str, Duration)], after: &[(&'static str, Duration)]) -> Vec<(&'static str, Duration)> {
    let pairs = after.iter().zip(before);
    pairs
        .map(|((name, after), (_, before))| (*name, after.saturating_sub(*before)))
        .collect()
}

fn name(n: u16) -> String {
    format!("burst-{n:03}")
}

/// Creates all.
async fn create(
    stage: &Stage,
    watched: &Watched,
    count: u16,
) -> Result<(Vec<Duration>, Vec<Duration>, Duration), Error> {
    let first = Instant::now();
    let each = (0..count).map(|n| async move {
        let api = kube::Api::<Instance>::namespaced(
            stage.cloud.clients[n as usize % stage.cloud.clients.len()].clone(),
            stage::NAMESPACE,
        );
        let began = first + APART * u32::from(n);
        tokio::time::sleep_until(began.into()).await;
        let made = api.create(&PostParams::default(), &stage::instance(&name(n))).await;
        made.map_err(Error::api("creating an Instance"))?;
        let created = began.elapsed();
        let runs = watched
            .until(&name(n), began, LIMIT, |seen| seen.is_some_and(is_running))
            .await?;
        Ok::<_, Error>((created, runs.duration_since(began), runs))
    });
    let seen = futures::future::try_join_all(each).await?;
    let all = seen.iter().map(|(_, _, runs)| *runs).max().unwrap_or(first);
    let (created, virga) = seen.into_iter().map(|(created, virga, _)| (created, virga)).unzip();
    Ok((created, virga, all.duration_since(first)))
}

/// Domains of virsh's own that are as an Instance's.
struct Twins {
    node: Arc<Node>,
    /// What makes each: a script.
    scripts: Vec<String>,
    names: Vec<String>,
}

impl Twins {
    fn of(node: &Arc<Node>, uid: &str, count: u16) -> Result<Self, Error> {
        let short: String = uid.chars().filter(|c| *c != '-').take(8).collect();
        let xml = virsh::said(node, &["dumpxml", "--inactive", &format!("virga-{short}")])?;
        // Two guests with one address would disturb each other.
        let xml: Vec<&str> = xml
            .lines()
            .filter(|line| !line.trim().starts_with("<mac address="))
            .collect();
        let xml = xml.join("\n");
        let directory = stage::folder(node, uid);
        let mut info = std::process::Command::new("qemu-img");
        info.args(["info", "--force-share", "--output=json"])
            .arg(directory.join("root.qcow2"));
        let info = command::text(&mut info, APART * 100).map_err(command::failed("asking for a disk's image"))?;
        let (backing, format, size) = overlay(&info).ok_or_else(|| Error::unreadable("qemu-img info", &info))?;
        let backing = std::fs::canonicalize(&backing).map_err(file::failed("finding", &backing))?;
        let mut twins = Self {
            node: Arc::clone(node),
            scripts: Vec::new(),
            names: Vec::new(),
        };
        for n in 0..count {
            let name = format!("twin-{n:03}");
            let folder = node.data().join("twins").join(&name);
            file::make_folder(&folder)?;
            let seed = folder.join("seed.iso");
            std::fs::copy(directory.join("seed.iso"), &seed).map_err(file::failed("copying", &seed))?;
            let base = folder.join("base");
            std::os::unix::fs::symlink(&backing, &base).map_err(file::failed("linking", &base))?;
            let own = Own {
                name: &name,
                uuid: &format!("00000000-bbbb-4bbb-8bbb-{n:012}"),
                folder: &stage::text(&folder),
            };
            let xml = own
                .renamed(&xml, &stage::text(&directory), uid)
                .ok_or_else(|| Error::unreadable("virsh dumpxml", &xml))?;
            file::write(&folder.join("domain.xml"), xml)?;
            let (folder, backing) = (folder.display(), backing.display());
            twins.scripts.push(format!(
                "qemu-img create -q -f qcow2 -F {format} -b {backing} {folder}/root.qcow2 {size}; \
                 virsh --quiet --connect $URI 'define {folder}/domain.xml; start {name}' >/dev/null"
            ));
            twins.names.push(name);
        }
        Ok(twins)
    }

    /// Starts each when its turn comes, also if the one before is not through. When each was, and all.
    async fn start(&self) -> Result<(Vec<Duration>, Duration), Error> {
        let first = Instant::now();
        let mut under_way = Vec::new();
        for (n, script) in (0_u32..).zip(&self.scripts) {
            let began = first + APART * n;
            tokio::time::sleep_until(began.into()).await;
            let (node, script) = (Arc::clone(&self.node), script.clone());
            under_way.push(tokio::task::spawn_blocking(move || {
                virsh::script(&node, &script).map(|_| began.elapsed())
            }));
        }
        let mut times = Vec::new();
        for one in under_way {
            times.push(
                one.await
                    .map_err(|error| Error::unreadable("a thread", &error.to_string()))??,
            );
        }
        Ok((times, first.elapsed()))
    }

    fn remove(&self) -> Result<(), Error> {
        for name in &self.names {
            virsh::said(&self.node, &[&format!("destroy {name}; undefine --nvram {name}")])?;
        }
        Ok(())
    }
}

impl Burst {
    /// What the page says of it.
    pub fn section(&self, measured: &str) -> Section {
        page::section(TITLE, |page| self.write(page, measured))
    }

    fn write(&self, page: &mut String, measured: &str) -> std::fmt::Result {
        use std::fmt::Write as _;
        let count = self.virga.len();
        writeln!(
            page,
            "{measured} Guests run under emulation (TCG), not KVM. Controller and agent are release builds.\n\n\
             {count} Instances of 32 MiB with one interface, {} ms apart, on one host that has image and network already; the \
             guest is a boot sector that halts. Before them, in the same run, {count} domains of the same XML, as far apart: \
             `qemu-img create` over the same image, and one virsh that defines and starts. Each is timed from when its turn \
             came; Instances until a watch shows them Active and Ready, the others until virsh has ended. A start takes \
             more than {} ms of the processor, so both fall behind, and what is compared is how far.\n",
            APART.as_millis(),
            APART.as_millis()
        )?;
        writeln!(
            page,
            "| | median | 95th percentile | longest | all run after |\n|---|---:|---:|---:|---:|"
        )?;
        for (name, times, all) in [
            ("virsh", &self.libvirt, Some(self.all[0])),
            ("Virga", &self.virga, Some(self.all[1])),
            ("of it, until the create is answered", &self.created, None),
        ] {
            let all = all.map_or_else(String::new, |all| format!("{:.1} s", all.as_secs_f64()));
            writeln!(
                page,
                "| {name} | {} | {} | {} | {all} |",
                ms(times, 50),
                ms(times, 95),
                ms(times, 100)
            )?;
        }
        let ratio = |percent| {
            let (ours, bare) = (quantile(&self.virga, percent)?, quantile(&self.libvirt, percent)?);
            Some(ours.as_secs_f64() / bare.as_secs_f64())
        };
        if let (Some(half), Some(most)) = (ratio(50), ratio(95)) {
            writeln!(
                page,
                "\nThat is {half:.2} times virsh's median and {most:.2} times its 95th percentile; the goal is {:.1}.",
                f64::from(GOAL) / 100.0
            )?;
        }
        writeln!(
            page,
            "\nThe agent's steps, by its own clock, and the processor time of each process for one Instance:\n"
        )?;
        writeln!(page, "| step | mean |\n|---|---:|")?;
        for (step, mean) in &self.steps {
            writeln!(page, "| `{step}` | {} ms |", mean.as_millis())?;
        }
        writeln!(page, "\n| process | virsh | Virga |\n|---|---:|---:|")?;
        let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        let writes = self.writes.iter().map(|(resource, writes)| {
            let writes = u32::try_from(*writes).unwrap_or(u32::MAX);
            format!("`{resource}` {:.2}", f64::from(writes) / f64::from(count))
        });
        let writes: Vec<String> = writes.collect();
        for (name, times) in &self.processor {
            let [bare, virga] = times.map(|time| (time / count).as_secs_f64() * 1e3);
            writeln!(page, "| {name} | {bare:.1} ms | {virga:.1} ms |")?;
        }
        let more = |names: &[&str]| -> f64 {
            let of = self.processor.iter().filter(|(name, _)| names.contains(name));
            of.map(|(_, [bare, virga])| (virga.as_secs_f64() - bare.as_secs_f64()) / f64::from(count) * 1e3)
                .sum()
        };
        writeln!(
            page,
            "\nThe processors are hardly ever idle, so what is compared is how much of them each takes. Of what Virga takes \
             more, {:.0} ms an Instance are the API server's, etcd's, the controller's and the bench's, which a cloud has on \
             other machines, and {:.0} ms are the agent's and libvirtd's on the host.",
            more(&["kube-apiserver", "etcd", "virga-controller", "the bench"]),
            more(&["virga-agent", "libvirtd"])
        )?;
        writeln!(page, "\nWrites of the API for one Instance: {}.", writes.join(", "))?;
        Ok(())
    }
}
