//! What does each of these tests begin with, and end with?

use std::fmt::Debug;
use std::ops::Deref;
use std::process::Command;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use virga_crds::{
    FloatingIP, Image, Instance, LoadBalancer, Network, Placement, Router, SecurityGroup, SecurityGroupSpec, UserData,
};
use virga_e2e::objects::{guest, instance, tiny};
use virga_e2e::{BOUND, Case, Installation, eventually, is_ready, on_node, with_temp_namespace};
use virga_lab::{Lab, Ovn, OvnDaemon};

use crate::{GUEST, host, nothing_new_is_left, remains};

/// A script of a guest that tries nothing.
pub(super) const SERVES: &str = "#!/bin/sh\n";

/// A test's namespace, with a flavor, the guests' image and Networks, on a lab whose networks OVN carries.
pub(super) struct Scene {
    case: Case,
    pub lab: &'static Lab,
    pub ovn: Ovn,
    flavor: String,
}

impl Deref for Scene {
    type Target = Case;

    fn deref(&self) -> &Case {
        &self.case
    }
}

/// Runs a test in a namespace with these Networks, if the lab has OVN. Afterwards all is deleted at once, and nothing of it
/// may be left: no row, and nothing on a node.
pub(super) async fn on_ovn(networks: impl IntoIterator<Item = Network>, test: impl AsyncFnOnce(&Scene)) {
    let Some((installation, lab, ovn, _turn)) = Installation::turn_on_ovn().await else {
        return;
    };
    let test = async |case: Case| {
        let before = remains(lab);
        let flavor = case.flavor("tiny", tiny()).await;
        let scene = Scene { case, lab, ovn, flavor };
        scene.create(guest()).await;
        let mut names = Vec::new();
        for network in networks {
            names.push(scene.create(network).await.name_any());
        }
        for name in names {
            scene.await_condition::<Network>(&name, "Ready", is_ready).await;
        }
        scene.await_within::<Image>(GUEST, "guest", "Ready", is_ready).await;
        test(&scene).await;
        scene.clear().await;
        nothing_new_is_left(lab, &before).await;
    };
    Box::pin(with_temp_namespace(&installation.cluster, test)).await;
}

impl Scene {
    /// A guest on a node, with an address and what it is to try.
    pub fn guest(&self, name: &str, node: &str, network: &str, address: &str, script: &str) -> Instance {
        let mut made = instance(name, &self.flavor);
        made.spec.interfaces = serde_json::from_value(json!([{"network": network, "address": address}])).unwrap();
        made.spec.placement = Some(Placement {
            host: Some(node.into()),
            ..Placement::default()
        });
        made.spec.user_data = Some(UserData {
            inline: Some(script.into()),
            secret_ref: None,
        });
        made
    }

    /// Makes one.
    pub async fn plug(&self, name: &str, node: &str, network: &str, address: &str, script: &str) {
        self.create(self.guest(name, node, network, address, script)).await;
    }

    /// Waits until a guest runs.
    pub async fn runs(&self, name: &str) -> Instance {
        self.await_within(GUEST, name, "Ready", is_ready).await
    }

    /// Makes a group.
    pub async fn group(&self, name: &str, rules: &Value) {
        let spec: SecurityGroupSpec = serde_json::from_value(json!({"rules": rules})).unwrap();
        self.create(SecurityGroup::new(name, spec)).await;
    }

    /// Has everybody come in: to guests whose Ports name no group.
    pub async fn is_open(&self) {
        let every =
            |direction: &str| ["IPv4", "IPv6"].map(|family| json!({"direction": direction, "etherType": family}));
        let rules = [every("Egress"), every("Ingress")].concat();
        self.group("default", &json!(rules)).await;
    }

    /// Makes a Router `edge` that joins these Networks, with a way out if `public` is there to lead there.
    pub async fn route(&self, networks: &[&str], outside: Option<&str>) -> Router {
        let joined: Vec<Value> = networks.iter().map(|network| json!({"network": network})).collect();
        let gateway = outside.map(|network| json!({"network": {"name": network}}));
        let spec = json!({"networks": joined, "externalGateway": gateway});
        self.create(Router::new("edge", serde_json::from_value(spec).unwrap()))
            .await;
        self.await_condition("edge", "Ready", is_ready).await
    }

    /// Makes a FloatingIP of `public` that leads there, and waits until it does.
    pub async fn float(&self, name: &str, field: &str, target: &str) -> FloatingIP {
        let spec = json!({"network": {"name": "public"}, field: target});
        self.create(FloatingIP::new(name, serde_json::from_value(spec).unwrap()))
            .await;
        self.await_condition(name, "Ready", is_ready).await
    }

    /// Waits for a line on a guest's console, and returns all that it said.
    pub async fn said(&self, instance: &Instance, words: &str) -> String {
        let (node, uid) = (host(self.lab, instance), instance.uid().unwrap());
        eventually(&format!("{} says {words:?}", instance.name_any()), GUEST, async || {
            let console = on_node::console(&node, &uid);
            if console.contains(words) {
                Ok(console)
            } else {
                Err(console)
            }
        })
        .await
    }

    /// The same, when a guest has tried what it is to try: all these words must be there.
    pub async fn has_tried(&self, instance: &Instance, all: &[&str]) {
        let console = self.said(instance, "SEEN end").await;
        for words in all {
            assert!(console.contains(words), "{words:?} is not in\n{console}");
        }
    }

    /// Runs ovn-nbctl beside the control plane.
    pub fn nbctl(&self, args: &[&str]) -> String {
        let at = format!("--db={}", self.ovn.endpoint(OvnDaemon::NorthBound).unwrap());
        let mut command = Command::new("ovn-nbctl");
        let output = command.args([&at, "--timeout=20"]).args(args).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a script outside, and returns what it said.
    pub fn outside(&self, script: &str) -> Result<String, String> {
        outside(&self.ovn, script)
    }

    /// Waits until the outside is served a page with these words, at `address` or `address/port`.
    pub async fn serves(&self, place: &str, words: &str) {
        serves(&self.ovn, place, words).await;
    }

    /// Deletes everything at once, and waits until it is gone, with its rows.
    async fn clear(&self) {
        self.delete_all::<FloatingIP>().await;
        self.delete_all::<LoadBalancer>().await;
        self.delete_all::<Instance>().await;
        self.delete_all::<Router>().await;
        self.delete_all::<SecurityGroup>().await;
        self.delete_all::<Network>().await;
        self.all_gone::<Instance>().await;
        self.all_gone::<FloatingIP>().await;
        self.all_gone::<LoadBalancer>().await;
        self.all_gone::<Router>().await;
        self.all_gone::<SecurityGroup>().await;
        self.all_gone::<Network>().await;
        eventually("no row is left", BOUND, async || {
            let tables = ["Logical_Switch", "Logical_Router", "Port_Group"];
            let list = |table| self.nbctl(&["--bare", "--columns=name,external_ids", "list", table]);
            let left: String = tables.into_iter().map(list).collect();
            (!left.contains(&self.namespace)).then_some(()).ok_or(left)
        })
        .await;
    }

    async fn delete_all<K>(&self)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = self.api();
        let deleted = api
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await;
        deleted.unwrap_or_else(|error| panic!("deleting all {}: {error}", K::plural(&())));
    }

    async fn all_gone<K>(&self)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let api: Api<K> = self.api();
        let all = api.list(&ListParams::default()).await.unwrap();
        for object in all {
            self.await_gone::<K>(GUEST, &object.name_any()).await;
        }
    }
}

/// Runs a script outside, and returns what it said.
pub(super) fn outside(ovn: &Ovn, script: &str) -> Result<String, String> {
    let mut command = ovn.outside(&["timeout", "10", "bash", "-c", script]).unwrap();
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Waits until the outside is served a page with these words, at `address` or `address/port`.
pub(super) async fn serves(ovn: &Ovn, place: &str, words: &str) {
    let (address, port) = place.split_once('/').unwrap_or((place, "80"));
    let get = format!(
        "timeout 5 bash -c 'exec 3<>/dev/tcp/{address}/{port} && printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3 && cat <&3'"
    );
    eventually(&format!("{place} says {words:?}"), BOUND, async || {
        match outside(ovn, &get) {
            Ok(page) if page.contains(words) => Ok(()),
            Ok(other) | Err(other) => Err(other),
        }
    })
    .await;
}

/// The outside as a Network: the physical network of every node, of which the pool is ours.
pub(super) fn public() -> Network {
    let spec = json!({
        "type": "Flat", "physicalNetwork": Ovn::PHYSICAL_NETWORK, "scope": "External",
        "subnets": [{
            "name": "v4", "cidr": "10.200.0.0/24", "gateway": "10.200.0.1", "dhcp": "Disabled",
            "allocationPools": [{"start": "10.200.0.100", "end": "10.200.0.199"}],
        }],
    });
    Network::new("public", serde_json::from_value(spec).unwrap())
}
