//! For the tests of the kinds: their loops on an API in this process, with the clock paused.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use kube::ResourceExt;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use virga_core::network::Backend;
use virga_crds::{
    Hypervisor, Instance, InstanceSpec, Interface, Network, NetworkScope, NetworkSpec, NetworkType, Port, Subnet,
    finalizers,
};
use virga_ovsdb::northbound;
use virga_runtime::{clock::Clock, heartbeat, lease::Leadership, metrics};
use virga_testkit::FakeApi;

pub(crate) use crate::fixtures::NAMESPACE;
use crate::{
    controllers, fixtures,
    ovn::{Carrier, Settings},
    process::{Identity, Parts},
    scheduling::{HostDefaults, Scheduler, feed, takeover},
};

/// An API, and the loops of all kinds on it.
pub(crate) struct World {
    pub(crate) api: FakeApi,
    stop: CancellationToken,
    loops: Vec<JoinHandle<()>>,
    carrier: Carrier,
    scheduler: Option<Arc<Scheduler>>,
}

impl World {
    /// Everything is up and has settled.
    pub(crate) async fn start() -> Self {
        let mut world = Self::carried_by(Carrier::default());
        world.run();
        world.settle().await;
        world
    }

    /// On OVN, whose database is never there: what it takes to give addresses needs none.
    pub(crate) async fn on_ovn() -> Self {
        let client = virga_ovsdb::Options::new(
            vec!["unix:/nonexistent/nb.sock".parse().unwrap()],
            northbound::DATABASE,
            northbound::TABLES.to_vec(),
        );
        let mut world = Self::carried_by(Carrier {
            backend: Backend::Ovn { underlay_mtu: 1500 },
            northbound: Some(Settings {
                client,
                southbound: None,
                owner: "test".into(),
            }),
        });
        world.run();
        world.settle().await;
        world
    }

    /// Nothing runs yet.
    pub(crate) fn carried_by(carrier: Carrier) -> Self {
        Self {
            api: fixtures::api(),
            stop: CancellationToken::new(),
            loops: Vec::new(),
            carrier,
            scheduler: None,
        }
    }

    /// The controller dies and another takes over, with an empty memory.
    pub(crate) async fn restart(&mut self) {
        self.loops.drain(..).for_each(|task| task.abort());
        self.stop.cancel();
        self.stop = CancellationToken::new();
        self.run();
        self.settle().await;
    }

    /// Starts the loops.
    pub(crate) fn run(&mut self) {
        let client = self.api.client_as("virga-controller");
        let clock: Arc<dyn Clock> = Arc::new(self.api.clock().reader());
        let identity = Identity {
            namespace: "virga-system",
            pod: "test",
            holder: "test",
        };
        let Parts {
            mut context,
            watches,
            sender,
            ..
        } = Parts::new(
            &client,
            &clock,
            identity,
            HostDefaults::default(),
            self.carrier.clone(),
            &mut metrics::registry(),
        );
        Arc::make_mut(&mut context).leadership = Leadership::granted(clock, identity.holder);
        let stores = context.stores.clone();
        let stop = &self.stop;
        let feed = tokio::spawn(feed::run(context.scheduler.clone(), &watches, stop.clone()));
        let loops = controllers(&context, &watches, stop);
        self.scheduler = Some(context.scheduler.clone());
        self.loops = vec![
            feed,
            tokio::spawn(sender.run(stop.clone())),
            tokio::spawn(watches.run(stop.clone())),
            // As the process does: a loop begins when all that it reads is there.
            tokio::spawn(async move {
                assert!(stores.synced().await, "the watches ended");
                drop(join_all(loops.into_iter().map(tokio::spawn)).await);
            }),
        ];
    }

    /// From now on it is decided where Instances go.
    pub(crate) async fn decide(&self) {
        takeover::open(&self.api.client_as("virga-controller"), self.scheduler()).await;
    }

    /// What is promised on a host.
    pub(crate) fn usage(&self, host: &str) -> virga_scheduler::Usage {
        self.scheduler().usage(host)
    }

    fn scheduler(&self) -> &Scheduler {
        self.scheduler.as_deref().unwrap()
    }

    /// Waits until nobody has asked anything for a while.
    pub(crate) async fn settle(&self) {
        self.api.settle(Duration::from_secs(3)).await;
    }

    /// A host whose agent reports that it is ready.
    pub(crate) fn host(&self, name: &str) {
        let host = fixtures::hypervisor(name);
        self.api.create(&Hypervisor::new(name, host.spec.clone()));
        self.api.merge_status::<Hypervisor>(None, name, json!(host.status));
    }

    /// A network of one subnet.
    pub(crate) fn network(&self, name: &str, cidr: &str) {
        self.network_as(name, cidr, |_| {});
    }

    /// A network of one subnet, and of another kind.
    pub(crate) fn network_as(&self, name: &str, cidr: &str, change: impl FnOnce(&mut NetworkSpec)) {
        let subnet = Subnet {
            name: "v4".into(),
            cidr: cidr.into(),
            ..Subnet::default()
        };
        let mut spec = NetworkSpec {
            subnets: vec![subnet],
            ..NetworkSpec::default()
        };
        change(&mut spec);
        self.api.create(&fixtures::in_shop(Network::new(name, spec)));
    }

    /// An external Network, `public`.
    pub(crate) fn outside(&self, cidr: &str, change: impl FnOnce(&mut NetworkSpec)) {
        self.network_as("public", cidr, |spec| {
            spec.type_ = NetworkType::Flat;
            spec.physical_network = Some("physnet".into());
            spec.scope = NetworkScope::External;
            change(spec);
        });
    }

    /// An Instance, bound to a node or not.
    pub(crate) fn instance(&self, name: &str, node: Option<&str>, change: impl FnOnce(&mut InstanceSpec)) -> Instance {
        let mut instance = fixtures::instance(name);
        instance.spec.node_name = node.map(Into::into);
        change(&mut instance.spec);
        instance.metadata.finalizers = node.map(|_| vec![finalizers::AGENT.into()]);
        self.api.create(&instance)
    }

    /// The agent takes its finalizer off, and what the Instance owned goes with it.
    pub(crate) fn agent_lets_go(&self, name: &str) {
        self.api
            .merge::<Instance>(Some(NAMESPACE), name, json!({"metadata": {"finalizers": null}}));
        self.api.collect_garbage();
    }

    /// The reason of an object's `Ready`, and whether it is true.
    pub(crate) fn ready<K>(&self, namespace: Option<&str>, name: &str) -> (String, String)
    where
        K: kube::Resource<DynamicType = ()> + serde::Serialize + serde::de::DeserializeOwned,
    {
        let object = self
            .api
            .read::<K>(namespace, name)
            .unwrap_or_else(|| panic!("{name} is gone"));
        let object = serde_json::to_value(&object).unwrap();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions
            .iter()
            .find(|condition| condition["type"] == "Ready")
            .cloned()
            .unwrap_or_default();
        let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
        (format!("{}/{}", text("status"), text("reason")), text("message"))
    }
}

/// An interface in a network, with an address or without.
pub(crate) fn interface(network: &str, address: Option<&str>) -> Interface {
    Interface {
        network: network.into(),
        address: address.map(Into::into),
        ..Interface::default()
    }
}

/// A Port's first address.
pub(crate) fn ip(port: &Port) -> &str {
    port.spec
        .addresses
        .first()
        .map(|address| address.ip.as_str())
        .unwrap_or_default()
}

/// The names of these.
pub(crate) fn names<K: kube::Resource>(objects: &[K]) -> Vec<String> {
    objects.iter().map(ResourceExt::name_any).collect()
}

/// Hosts whose agents serve, and an Instance that runs on the first.
pub(crate) async fn stage(hosts: &[&str]) -> (World, CancellationToken) {
    let world = World::start().await;
    let stop = CancellationToken::new();
    for (index, name) in hosts.iter().enumerate() {
        let lease = format!("virga-{name}");
        let options = heartbeat::Options::new("virga-system", &lease, *name, "virga-agent");
        let client = world.api.client_as("virga-agent");
        let clock = Arc::new(world.api.clock().reader());
        tokio::spawn(heartbeat::run(client, clock, options, stop.clone()));
        world.host(name);
        let address = json!([{"type": "InternalIP", "address": format!("172.31.0.{index}")}]);
        let serves = json!({"addresses": address, "transferPort": 9192});
        world.api.merge_status::<Hypervisor>(None, name, serves);
    }
    world.api.create(&fixtures::flavor("m1.small"));
    world.api.create(&fixtures::image("debian"));
    world.network("front", "10.0.0.0/24");
    world.instance("web", Some(hosts[0]), |spec| {
        spec.interfaces = vec![interface("front", None)];
    });
    world
        .api
        .merge_status::<Instance>(Some(NAMESPACE), "web", json!({"state": "Active"}));
    world.decide().await;
    world.settle().await;
    (world, stop)
}
