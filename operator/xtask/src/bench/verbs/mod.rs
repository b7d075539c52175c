//! What does each verb take, from its request until a watch shows it done, beside the calls of libvirt that it consists of?
//!
//! One Instance and one domain of the same XML, in turn. The guest is a boot sector that hears the power button.

mod bare;

use std::fmt::Write as _;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use virga_crds::{Image, Instance, InstanceState, ObservedPower, Volume};

use self::bare::Bare;
use super::instances::is_running;
use super::quantile::quantile;
use super::stage::seen::Watched;
use super::stage::{self, LARGER, NAMESPACE, NETWORKS, Stage};
use super::{Error, is_ready, page};
use crate::sections::Section;

/// The section's title.
pub const TITLE: &str = "Verbs beside libvirt's calls";
const NAME: &str = "verbs";
/// It keeps both Networks up.
const KEEPER: &str = "keeper";
const VOLUME: &str = "data";
/// For one verb.
const LIMIT: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// What the guest says when it has booted, in bytes.
const GREETING: u64 = 13;

/// One verb, as often as it was measured.
struct Verb {
    name: &'static str,
    calls: &'static str,
    ours: Vec<Duration>,
    bare: Vec<Duration>,
}

/// What was measured.
#[derive(Default)]
pub struct Verbs {
    verbs: Vec<Verb>,
}

struct Bench<'a> {
    stage: &'a Stage,
    watched: Watched,
    verbs: Verbs,
}

/// Measures on a stage of its own.
pub async fn measure(rounds: u16) -> Result<Verbs, Error> {
    let stage = Stage::up().await?;
    let watched = Watched::begin(stage.instances()).await?;
    let mut bench = Bench {
        stage: &stage,
        watched,
        verbs: Verbs::default(),
    };
    bench.prepare().await?;
    for round in 1..=rounds {
        println!("round {round} of {rounds}");
        bench.round(round).await?;
    }
    Ok(bench.verbs)
}

impl Bench<'_> {
    /// A neighbour that keeps the Networks up, and a Volume that has been on the host.
    async fn prepare(&self) -> Result<(), Error> {
        let mut keeper = stage::instance(KEEPER);
        let mut second = keeper.spec.interfaces[0].clone();
        second.network = NETWORKS[1].into();
        keeper.spec.interfaces.push(second);
        let began = Instant::now();
        stage::make(&self.stage.instances(), &keeper).await?;
        let seen = self
            .watched
            .until(KEEPER, began, stage::LIMIT, |seen| seen.is_some_and(is_running));
        seen.await?;
        let volume: Volume = serde_json::from_value(json!({
            "apiVersion": "virga.dev/v1alpha1", "kind": "Volume",
            "metadata": {"name": VOLUME}, "spec": {"size": "1Mi"},
        }))
        .map_err(|error| Error::unreadable("a Volume", &error.to_string()))?;
        let volumes = Api::<Volume>::namespaced(self.stage.client(), NAMESPACE);
        stage::make(&volumes, &volume).await
    }

    async fn round(&mut self, round: u16) -> Result<(), Error> {
        let name = format!("{NAME}-{round}");
        let began = Instant::now();
        let booting = SystemTime::now();
        let (api, wanted) = (self.stage.instances(), stage::instance(&name));
        let made = api.create(&PostParams::default(), &wanted).await;
        let made = made.map_err(Error::api("creating an Instance"))?;
        let runs = self
            .watched
            .until(&name, began, LIMIT, |seen| seen.is_some_and(is_running));
        let created = runs.await?.duration_since(began);
        let folder = stage::folder(&self.stage.node, &made.uid().unwrap_or_default());
        booted(&folder, booting).await?;
        let bare = Bare::of(&self.stage.node, &made.uid().unwrap_or_default(), &folder)?;
        let booting = SystemTime::now();
        self.note("create", "qemu-img create, define, start", created, bare.create()?);
        booted(&bare.folder, booting).await?;

        let power = |power: &str| json!({"powerState": power});
        let is = |state| move |seen: &Instance| seen.status.as_ref().is_some_and(|status| status.state == Some(state));
        let ours = self.ask(&name, power("Paused"), is(InstanceState::Paused)).await?;
        self.note("pause", "suspend", ours, bare.virsh("suspend")?);
        let ours = self.ask(&name, power("Running"), is(InstanceState::Active)).await?;
        self.note("resume", "resume", ours, bare.virsh("resume")?);
        let ours = self
            .ask(&name, power("Suspended"), is(InstanceState::Suspended))
            .await?;
        self.note("suspend", "managedsave", ours, bare.virsh("managedsave")?);
        let ours = self.ask(&name, power("Running"), is(InstanceState::Active)).await?;
        self.note("resume, of what is suspended", "start", ours, bare.virsh("start")?);

        let booting = SystemTime::now();
        let hard = json!({"reboot": {"at": Timestamp::now().to_string(), "type": "Hard"}});
        let done = |seen: &Instance| {
            let reboot = seen.status.as_ref().and_then(|status| status.reboot.as_ref());
            is_running(seen) && reboot.is_some_and(|reboot| reboot.finished_at.is_some())
        };
        let ours = self.ask(&name, hard, done).await?;
        booted(&folder, booting).await?;
        let booting = SystemTime::now();
        self.note("reboot, hard", "destroy, start", ours, bare.reboot()?);
        booted(&bare.folder, booting).await?;

        let ours = self.snapshot(&name, round).await?;
        self.note("createImage", "backup-begin, until it is done", ours, bare.snapshot()?);
        self.disks(&name, &folder, &bare).await?;
        self.attach(&name, &bare).await?;

        let ours = self.ask(&name, power("Stopped"), |seen| {
            let power = seen.status.as_ref().and_then(|status| status.power_state);
            power == Some(ObservedPower::Stopped)
        });
        let ours = ours.await?;
        self.note("stop", "shutdown, until it is off", ours, bare.off()?);
        self.detach(&name, &bare).await?;
        let booting = SystemTime::now();
        let ours = self.ask(&name, power("Running"), is(InstanceState::Active)).await?;
        booted(&folder, booting).await?;
        let booting = SystemTime::now();
        self.note("start", "start", ours, bare.virsh("start")?);
        booted(&bare.folder, booting).await?;

        let began = Instant::now();
        let deleted = api.delete(&name, &DeleteParams::background()).await;
        deleted.map_err(Error::api("deleting an Instance"))?;
        let gone = self.watched.until(&name, began, LIMIT, |seen| seen.is_none()).await?;
        self.note(
            "delete",
            "shutdown, until it is off, undefine, rm",
            gone.duration_since(began),
            bare.remove()?,
        );
        Ok(())
    }

    /// What is plugged into a guest that runs.
    async fn attach(&mut self, name: &str, bare: &Bare) -> Result<(), Error> {
        let ours = self.ask(name, json!({"volumes": [{"name": VOLUME}]}), |_| true).await?;
        self.note("attach a volume", "attach-device", ours, bare.attach(bare::DISK)?);
        let ours = self.ask(name, interfaces(&NETWORKS), |_| true).await?;
        self.note(
            "attach an interface",
            "attach-device",
            ours,
            bare.attach(bare::INTERFACE)?,
        );
        Ok(())
    }

    /// The same out again while it is off: nobody in the guest would let go of it.
    async fn detach(&mut self, name: &str, bare: &Bare) -> Result<(), Error> {
        let ours = self.ask(name, json!({"volumes": []}), |_| true).await?;
        self.note("detach a volume, off", "detach-device", ours, bare.detach(bare::DISK)?);
        let ours = self.ask(name, interfaces(&NETWORKS[..1]), |_| true).await?;
        self.note(
            "detach an interface, off",
            "detach-device",
            ours,
            bare.detach(bare::INTERFACE)?,
        );
        Ok(())
    }

    /// What needs the guest to be off in between, and on again.
    async fn disks(&mut self, name: &str, folder: &Path, bare: &Bare) -> Result<(), Error> {
        let status = |seen: &Instance| seen.status.clone().unwrap_or_default();
        let anew = json!({"rebuild": {"at": Timestamp::now().to_string()}});
        let rebuilt = move |seen: &Instance| {
            let rebuild = status(seen).rebuild;
            is_running(seen) && rebuild.is_some_and(|rebuild| rebuild.finished_at.is_some())
        };
        let resized = move |seen: &Instance| {
            let resize = status(seen).resize;
            is_running(seen) && resize.is_some_and(|resize| resize.finished_at.is_some())
        };
        let rescued = move |seen: &Instance| status(seen).state == Some(InstanceState::Rescued);
        let booting = SystemTime::now();
        let ours = self.ask(name, anew, rebuilt).await?;
        booted(folder, booting).await?;
        let booting = SystemTime::now();
        self.note(
            "rebuild",
            "shutdown, until it is off, qemu-img create, start",
            ours,
            bare.rebuild()?,
        );
        booted(&bare.folder, booting).await?;
        let booting = SystemTime::now();
        let ours = self.ask(name, json!({"rescue": {}}), rescued).await?;
        booted(folder, booting).await?;
        let booting = SystemTime::now();
        self.note(
            "rescue",
            "shutdown, until it is off, qemu-img create, define, start",
            ours,
            bare.rescue()?,
        );
        booted(&bare.folder, booting).await?;
        let again = "shutdown, until it is off, define, start";
        for (verb, patch) in [
            ("unrescue", json!({"rescue": null})),
            ("resize", json!({"flavor": LARGER})),
        ] {
            let booting = SystemTime::now();
            let ours = match verb {
                "resize" => self.ask(name, patch, resized).await?,
                _ => self.ask(name, patch, is_running).await?,
            };
            booted(folder, booting).await?;
            let booting = SystemTime::now();
            self.note(verb, again, ours, bare.define_again()?);
            booted(&bare.folder, booting).await?;
        }
        Ok(())
    }

    /// Writes this into the spec, and waits until a watch shows that all is so.
    async fn ask(&self, name: &str, spec: Value, done: impl Fn(&Instance) -> bool) -> Result<Duration, Error> {
        let began = Instant::now();
        let patch = Patch::Merge(json!({"spec": spec}));
        let api = self.stage.instances();
        let patched = api.patch(name, &PatchParams::default(), &patch).await;
        let patched = patched.map_err(Error::api(format!("asking for {spec}")))?;
        let generation = patched.metadata.generation;
        let seen = self.watched.until(name, began, LIMIT, |seen| {
            let Some((instance, status)) = seen.and_then(|seen| Some((seen, seen.status.as_ref()?))) else {
                return false;
            };
            status.observed_generation == generation && is_ready(&status.conditions) && done(instance)
        });
        let seen = seen.await.map_err(|error| match error {
            Error::Late { limit_s, status, .. } => Error::Late {
                what: format!("{spec}"),
                limit_s,
                status,
            },
            error => error,
        });
        Ok(seen?.duration_since(began))
    }

    /// An Image of its root disk, until it is Ready; seen by asking, not by a watch.
    async fn snapshot(&self, name: &str, round: u16) -> Result<Duration, Error> {
        let image: Image = serde_json::from_value(json!({
            "apiVersion": "virga.dev/v1alpha1", "kind": "Image",
            "metadata": {"name": format!("snapshot-{round}")}, "spec": {"source": {"instance": {"name": name}}},
        }))
        .map_err(|error| Error::unreadable("an Image", &error.to_string()))?;
        let api = Api::<Image>::namespaced(self.stage.client(), NAMESPACE);
        let began = Instant::now();
        stage::make(&api, &image).await?;
        until("the snapshot", || async {
            let image = api
                .get(&image.name_any())
                .await
                .map_err(Error::api("reading an Image"))?;
            Ok(is_ready(&image.status.unwrap_or_default().conditions))
        })
        .await?;
        Ok(began.elapsed())
    }

    fn note(&mut self, name: &'static str, calls: &'static str, ours: Duration, bare: Duration) {
        println!(
            "{name}: {} ms, libvirt's calls {} ms",
            ours.as_millis(),
            bare.as_millis()
        );
        let verbs = &mut self.verbs.verbs;
        let index = verbs.iter().position(|verb| verb.name == name).unwrap_or_else(|| {
            verbs.push(Verb {
                name,
                calls,
                ours: Vec::new(),
                bare: Vec::new(),
            });
            verbs.len() - 1
        });
        verbs[index].ours.push(ours);
        verbs[index].bare.push(bare);
    }
}

fn interfaces(networks: &[&str]) -> Value {
    let interfaces: Vec<Value> = networks.iter().map(|network| json!({"network": network})).collect();
    json!({"interfaces": interfaces})
}

/// Waits until the guest of this folder has said on its console, since then, that it hears the power button.
async fn booted(folder: &Path, since: SystemTime) -> Result<(), Error> {
    let console = folder.join("console.log");
    until("the guest's greeting", || async {
        let said = fs::metadata(&console).ok().filter(|said| said.len() >= GREETING);
        Ok(said.and_then(|said| said.modified().ok()).is_some_and(|at| at > since))
    })
    .await?;
    // It says so right before it arms the button.
    tokio::time::sleep(LOOK_AGAIN * 40).await;
    Ok(())
}

async fn until<F>(what: &str, look: impl Fn() -> F) -> Result<(), Error>
where
    F: Future<Output = Result<bool, Error>>,
{
    let began = Instant::now();
    while !look().await? {
        if began.elapsed() > LIMIT {
            return Err(Error::Late {
                what: what.to_owned(),
                limit_s: LIMIT.as_secs(),
                status: "nothing".to_owned(),
            });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

impl Verbs {
    /// What the page says of it.
    pub fn section(&self, measured: &str) -> Section {
        page::section(TITLE, |page| self.write(page, measured))
    }

    fn write(&self, page: &mut String, measured: &str) -> std::fmt::Result {
        let rounds = self.verbs.first().map_or(0, |verb| verb.ours.len());
        writeln!(
            page,
            "{measured} Guests run under emulation (TCG), not KVM. Controller and agent are release builds.\n\n\
             Each verb {rounds} times, in turn with the same on a domain of the same XML, and the median of each. Virga is \
             timed from the request until a watch shows the Instance Ready as asked (an Image by asking every 5 ms): a write \
             of the spec through admission, the agent's look at libvirt, its calls, and a write of the status or two. \
             libvirt's calls are timed by virsh's own clock, without its start; `qemu-img` as a whole. The guest is a boot \
             sector that switches off as soon as it sees the power button, and has let the firmware do nothing else.\n"
        )?;
        writeln!(
            page,
            "| verb | libvirt's calls | they alone | Virga | more |\n|---|---|---:|---:|---:|"
        )?;
        for verb in &self.verbs {
            let (Some(ours), Some(bare)) = (quantile(&verb.ours, 50), quantile(&verb.bare, 50)) else {
                continue;
            };
            let more = (ours.as_secs_f64() - bare.as_secs_f64()) * 1e3;
            writeln!(
                page,
                "| {} | {} | {} ms | {} ms | {more:.0} ms |",
                verb.name,
                verb.calls,
                bare.as_millis(),
                ours.as_millis()
            )?;
        }
        Ok(())
    }
}
