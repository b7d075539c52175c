//! Hosts on paper: Hypervisors with a status, and Leases that are renewed.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::task::JoinHandle;
use virga_crds::{Bytes, Hypervisor, HypervisorSpec, Instance, SYSTEM_NAMESPACE, managers};
use virga_e2e::{BOUND, Case, eventually};

/// As an agent does it.
const RENEWAL: Duration = Duration::from_secs(5);

/// A test's hosts. Every other host of the cluster is another test's, and cordoned when that has ended.
pub struct Hosts {
    names: Vec<String>,
    heart: JoinHandle<()>,
}

impl Hosts {
    /// So many, each with this much memory, and enough of all else.
    pub async fn up(t: &Case, count: usize, memory: Bytes) -> Self {
        let names: Vec<String> = (0..count).map(|n| format!("{}-{n}", t.namespace)).collect();
        for name in &names {
            beat(&t.client, name).await.unwrap();
            t.create_cluster_wide(Hypervisor::new(name, HypervisorSpec::default()))
                .await;
            let said = |kind: &str, reason: &str| {
                json!({
                    "type": kind, "status": "True", "reason": reason, "message": "on paper",
                    "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
                })
            };
            let status = json!({
                "apiVersion": "virga.dev/v1alpha1", "kind": "Hypervisor", "metadata": {"name": name},
                "status": {
                    "observedGeneration": 1,
                    "capacity": {"vcpus": 64, "memory": memory, "disk": "1Ti"},
                    "cpu": {"architecture": "x86_64", "model": "Paper", "vendor": "Paper"},
                    "capabilities": {"domainTypes": ["qemu"], "machineTypes": ["q35"], "firmware": ["BIOS"]},
                    "conditions": [said("Ready", "HeartbeatSeen"), said("LibvirtConnected", "LibvirtAvailable")],
                },
            });
            let api: Api<Hypervisor> = Api::all(t.client.clone());
            api.patch_status(
                name,
                &PatchParams::apply(managers::AGENT).force(),
                &Patch::Apply(&status),
            )
            .await
            .unwrap();
        }
        let (client, beating) = (t.client.clone(), names.clone());
        let heart = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEWAL).await;
                for name in &beating {
                    // One that is missed is made up for by the next.
                    let _ = beat(&client, name).await;
                }
            }
        });
        Self { names, heart }
    }

    pub fn name(&self, number: usize) -> &str {
        &self.names[number]
    }

    pub async fn cordon(&self, t: &Case, number: usize, reason: &str) {
        let api: Api<Hypervisor> = Api::all(t.client.clone());
        let change = Patch::Merge(json!({"spec": {"scheduling": "Cordoned", "reason": reason}}));
        api.patch(&self.names[number], &PatchParams::default(), &change)
            .await
            .unwrap();
    }

    pub async fn uncordon(&self, t: &Case, number: usize) {
        let api: Api<Hypervisor> = Api::all(t.client.clone());
        let change = Patch::Merge(json!({"spec": {"scheduling": "Enabled", "reason": null}}));
        api.patch(&self.names[number], &PatchParams::default(), &change)
            .await
            .unwrap();
    }

    /// Takes them away with all Instances: the next test's Instances must not find these hosts, nor these Instances the
    /// next test's hosts.
    pub async fn down(self, t: &Case) {
        let instances = t.api::<Instance>();
        let all = ListParams::default();
        instances
            .delete_collection(&DeleteParams::default(), &all)
            .await
            .unwrap();
        eventually("the Instances are gone", BOUND, async || {
            let left = instances.list(&all).await.map_err(|error| error.to_string())?.items;
            for instance in &left {
                // What their agents would do. One that is gone meanwhile needs nothing.
                let none = Patch::Merge(json!({"metadata": {"finalizers": []}}));
                let _ = instances
                    .patch(&instance.name_any(), &PatchParams::default(), &none)
                    .await;
            }
            left.is_empty()
                .then_some(())
                .ok_or_else(|| format!("{} are left", left.len()))
        })
        .await;
        self.heart.abort();
        let api: Api<Hypervisor> = Api::all(t.client.clone());
        let leases: Api<Lease> = Api::namespaced(t.client.clone(), SYSTEM_NAMESPACE);
        for name in &self.names {
            let none = Patch::Merge(json!({"metadata": {"finalizers": []}}));
            let _ = api.patch(name, &PatchParams::default(), &none).await;
            let _ = api.delete(name, &DeleteParams::default()).await;
            let _ = leases.delete(&format!("virga-{name}"), &DeleteParams::default()).await;
        }
    }
}

async fn beat(client: &Client, node: &str) -> kube::Result<Lease> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let name = format!("virga-{node}");
    let now = MicroTime(k8s_openapi::jiff::Timestamp::now());
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now},
    });
    leases
        .patch(
            &name,
            &PatchParams::apply(managers::AGENT).force(),
            &Patch::Apply(&lease),
        )
        .await
}
