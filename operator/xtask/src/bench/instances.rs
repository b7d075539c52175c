//! How long does an Instance take from its creation until it runs, as somebody sees it who watches it? And how many
//! writes does that take?

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};
use virga_crds::{
    Bytes, Condition, Flavor, FlavorSpec, Hypervisor, Image, ImageRef, ImageSource, ImageSpec, ImageVisibility,
    Instance, InstanceSpec, InstanceState, Interface, Network, NetworkSpec, ServerGroup, ServerGroupPolicy,
    ServerGroupSpec, Subnet,
};
use virga_lab::Lab;

use super::Error;
use super::effects::Effects;
use super::libvirt::Twin;
use super::memory::Memory;
use super::writes::Writes;

/// The namespace of all that the bench makes, and the Flavor's name.
const NAME: &str = "virga-bench";
/// What `cargo xtask demo` puts into the store of every node.
const GUEST: &str = "guest.qcow2";
/// How long anything may take; a guest is not waited for.
const LIMIT: Duration = Duration::from_mins(2);
/// Until what follows from a change, such as counters in other objects' status, is written too.
const SETTLE: Duration = Duration::from_secs(3);
/// Until guests have booted and are quiet, before something else is measured.
const BOOTED: Duration = Duration::from_secs(20);

/// What was measured.
#[derive(Debug, Default)]
pub struct Starts {
    /// From the create request to Active and Ready in the watch.
    pub virga: Vec<Duration>,
    /// From the create request to its answer: admission with it.
    pub created: Vec<Duration>,
    /// libvirt's define and start of the same domain.
    pub libvirt: Vec<Duration>,
    /// The mean of the agent's steps.
    pub steps: Vec<(&'static str, Duration)>,
    /// Writes of all rounds, by resource.
    pub writes: BTreeMap<String, u64>,
}

struct Bench<'a> {
    lab: &'a Lab,
    client: Client,
}

/// Measures in a namespace of its own, which is removed afterwards, also after a failure.
pub async fn measure(lab: &Lab, client: Client, rounds: u16, more: u16) -> Result<(Starts, Vec<Memory>), Error> {
    let bench = Bench { lab, client };
    bench.check().await?;
    bench.remove().await?;
    let measured = bench.measure(rounds, more).await;
    let removed = bench.remove().await;
    let measured = measured?;
    removed?;
    Ok(measured)
}

/// The starts alone, likewise.
pub async fn starts(lab: &Lab, client: &Client, rounds: u16) -> Result<Starts, Error> {
    let bench = Bench {
        lab,
        client: client.clone(),
    };
    bench.check().await?;
    bench.remove().await?;
    let starts = async {
        bench.prepare().await?;
        bench.starts(rounds).await
    };
    let starts = starts.await;
    let removed = bench.remove().await;
    let starts = starts?;
    removed?;
    Ok(starts)
}

impl Bench<'_> {
    /// Whether Virga runs here.
    async fn check(&self) -> Result<(), Error> {
        let listed = self.all::<Hypervisor>().list(&ListParams::default()).await;
        let hosts = listed.map_err(|error| match error {
            // The kind itself isn't there.
            kube::Error::Api(status) if status.code == 404 => Error::NoVirga,
            error => Error::api("listing Hypervisors")(error),
        })?;
        let conditions = |host: &Hypervisor| host.status.clone().unwrap_or_default().conditions;
        if hosts.iter().any(|host| is_ready(&conditions(host))) {
            Ok(())
        } else {
            Err(Error::NoVirga)
        }
    }

    async fn measure(&self, rounds: u16, more: u16) -> Result<(Starts, Vec<Memory>), Error> {
        println!("memory of the processes");
        let all = self.all::<Instance>();
        let before = all.list_metadata(&ListParams::default()).await;
        let before = before.map_err(Error::api("listing Instances"))?.items.len();
        let mut memory = vec![Memory::now(self.lab, before)?];
        self.prepare().await?;
        let starts = self.starts(rounds).await?;
        println!("memory of the processes with {more} Instances more");
        // The one of `starts` is among them.
        for n in 1..more {
            self.create(instance(&format!("more-{n}"), false)).await?;
        }
        for n in 1..more {
            let name = format!("more-{n}");
            self.until(&format!("Instance {name}"), || self.runs(&name)).await?;
        }
        sleep(BOOTED).await;
        memory.push(Memory::now(self.lab, before + usize::from(more))?);
        Ok((starts, memory))
    }

    /// Starts Instances and domains of libvirt's own in turn, on one node whose network and image are there already.
    async fn starts(&self, rounds: u16) -> Result<Starts, Error> {
        self.create(instance("first", true)).await?;
        self.until("Instance first", || self.runs("first")).await?;
        let first = self.get::<Instance>("first").await?;
        let bound = first.and_then(|first| first.spec.node_name).unwrap_or_default();
        let node = self.lab.node(&bound);
        let node = node.map_err(Error::NoLab)?;
        // It keeps the network up, and its processors have to be idle.
        sleep(BOOTED).await;
        let mut starts = Starts::default();
        let steps = Effects::now(&node)?;
        for round in 1..=rounds {
            let name = format!("round-{round}");
            let before = Writes::now(&self.client).await?;
            let (created, runs) = self.start(&name).await?;
            sleep(SETTLE).await;
            let writes = Writes::now(&self.client).await?.since(&before);
            let uid = self.get::<Instance>(&name).await?.and_then(|instance| instance.uid());
            let twin = Twin::of(&node, &uid.unwrap_or_default())?;
            self.delete::<Instance>(&name).await?;
            sleep(SETTLE).await;
            let libvirt = twin.start();
            twin.remove()?;
            let libvirt = libvirt?;
            println!(
                "round {round} of {rounds}: Instance {} ms, libvirt alone {} ms",
                runs.as_millis(),
                libvirt.as_millis()
            );
            starts.virga.push(runs);
            starts.created.push(created);
            starts.libvirt.push(libvirt);
            for (resource, count) in writes {
                *starts.writes.entry(resource).or_insert(0) += count;
            }
        }
        starts.steps = Effects::now(&node)?.since(&steps);
        Ok(starts)
    }

    /// Creates an Instance and watches it until it runs. Returns when the create was answered and when it ran.
    async fn start(&self, name: &str) -> Result<(Duration, Duration), Error> {
        let api = self.of::<Instance>();
        let version = api.list_metadata(&ListParams::default().limit(1)).await;
        let version = version
            .map_err(Error::api("listing Instances"))?
            .metadata
            .resource_version;
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let watch = api.watch(&params, &version.unwrap_or_default()).await;
        let mut watch = watch.map_err(Error::api("watching an Instance"))?.boxed();
        let mut status = "none".to_owned();
        let seen = async {
            let began = Instant::now();
            let created = self.create(instance(name, true)).await.map(|()| began.elapsed())?;
            while let Some(event) = watch.try_next().await.map_err(Error::api("watching an Instance"))? {
                let (WatchEvent::Added(seen) | WatchEvent::Modified(seen)) = event else {
                    continue;
                };
                if is_running(&seen) {
                    return Ok(Some((created, began.elapsed())));
                }
                status = format!("{:?}", seen.status);
            }
            Ok::<_, Error>(None)
        };
        let outcome = timeout(LIMIT, seen).await.unwrap_or(Ok(None))?;
        outcome.ok_or_else(|| late(format!("Instance {name}"), status))
    }

    async fn prepare(&self) -> Result<(), Error> {
        println!("image, network and a first Instance");
        let namespace = Namespace {
            metadata: kube::api::ObjectMeta {
                name: Some(NAME.into()),
                ..kube::api::ObjectMeta::default()
            },
            ..Namespace::default()
        };
        make(&self.all(), &namespace).await?;
        let flavor = FlavorSpec {
            description: "For measurements".into(),
            vcpus: 1,
            memory: Bytes::mib(128),
            disk: Bytes::ZERO,
            ..FlavorSpec::default()
        };
        make(&self.all(), &Flavor::new(NAME, flavor)).await?;
        let image = ImageSpec {
            source: ImageSource {
                instance: None,
                path: Some(GUEST.into()),
                ..ImageSource::default()
            },
            disk_format: None,
            visibility: ImageVisibility::Private,
            min_disk: Bytes::ZERO,
            min_memory: Bytes::ZERO,
            properties: BTreeMap::new(),
        };
        self.create(Image::new("guest", image)).await?;
        let subnet = Subnet {
            name: "v4".into(),
            cidr: "10.199.0.0/24".into(),
            ..Subnet::default()
        };
        let network = NetworkSpec {
            subnets: vec![subnet],
            ..NetworkSpec::default()
        };
        self.create(Network::new("bench", network)).await?;
        let together = ServerGroupSpec {
            policy: ServerGroupPolicy::Affinity,
            rules: None,
        };
        self.create(ServerGroup::new("one-host", together)).await?;
        self.until("Image guest", || async {
            let image = self.get::<Image>("guest").await?;
            let conditions = image.and_then(|image| image.status).unwrap_or_default().conditions;
            Ok((is_ready(&conditions), format!("{conditions:?}")))
        })
        .await
    }

    /// Takes away all that a bench makes.
    async fn remove(&self) -> Result<(), Error> {
        let namespaces = self.all::<Namespace>();
        self.gone(&namespaces, NAME).await?;
        self.gone(&self.all::<Flavor>(), NAME).await
    }

    async fn runs(&self, name: &str) -> Result<(bool, String), Error> {
        let instance = self.get::<Instance>(name).await?;
        let status = format!("{:?}", instance.as_ref().map(|instance| &instance.status));
        Ok((instance.is_some_and(|instance| is_running(&instance)), status))
    }

    fn all<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    fn of<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), NAME)
    }

    async fn create<K>(&self, object: K) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        make(&self.of::<K>(), &object).await
    }

    async fn get<K>(&self, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        self.of::<K>()
            .get_opt(name)
            .await
            .map_err(Error::api(format!("reading {name}")))
    }

    async fn delete<K>(&self, name: &str) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        self.gone(&self.of::<K>(), name).await
    }

    /// Deletes an object and waits until it is gone.
    async fn gone<K>(&self, api: &Api<K>, name: &str) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        match api.delete(name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            outcome => outcome.map_err(Error::api(format!("deleting {name}")))?,
        };
        self.until(&format!("the end of {name}"), || async {
            let found = api
                .get_metadata_opt(name)
                .await
                .map_err(Error::api(format!("reading {name}")))?;
            let finalizers = found.as_ref().map(|found| found.finalizers().join(", "));
            Ok((found.is_none(), format!("deleting, with the finalizers {finalizers:?}")))
        })
        .await
    }

    /// Waits until `look` says so, and tells what it saw last if it never does.
    async fn until<F>(&self, what: &str, look: impl Fn() -> F) -> Result<(), Error>
    where
        F: Future<Output = Result<(bool, String), Error>>,
    {
        let until = Instant::now() + LIMIT;
        loop {
            let (so, status) = look().await?;
            if so {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(late(what.to_owned(), status));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn make<K>(api: &Api<K>, object: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let made = api.create(&PostParams::default(), object).await;
    made.map(drop)
        .map_err(Error::api(format!("creating {}", object.name_any())))
}

fn instance(name: &str, together: bool) -> Instance {
    let spec = InstanceSpec {
        flavor: NAME.into(),
        image: Some(ImageRef {
            name: "guest".into(),
            namespace: None,
        }),
        interfaces: vec![Interface {
            network: "bench".into(),
            ..Interface::default()
        }],
        server_group: together.then(|| "one-host".into()),
        ..InstanceSpec::default()
    };
    Instance::new(name, spec)
}

/// Whether all is as its spec asks.
pub fn is_ready(conditions: &[Condition]) -> bool {
    conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether somebody who watches would say that it runs.
pub fn is_running(instance: &Instance) -> bool {
    let status = instance.status.as_ref();
    status.is_some_and(|status| status.state == Some(InstanceState::Active) && is_ready(&status.conditions))
}

fn late(what: String, status: String) -> Error {
    Error::Late {
        what,
        limit_s: LIMIT.as_secs(),
        status,
    }
}
