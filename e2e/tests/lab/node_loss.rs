//! A node loses power: its Instances are told to be of unknown state, and run again when it is back.

use std::time::Duration;

use virga_crds::{Hypervisor, Instance, ObservedPower};
use virga_e2e::{Case, Installation, condition, eventually, is_ready, with_temp_namespace};
use virga_lab::Lab;

use crate::{GUEST, given_a_place_for_idle_instances, host, idle, node_of, qemu_of};

/// A Lease is stale after 40 s, and is looked at every few.
const NOTICED: Duration = Duration::from_secs(90);
/// Kubelet, agent, and the guest's start.
const BACK: Duration = Duration::from_mins(3);

/// Power for the node, whatever becomes of the test.
pub(crate) struct Powered<'a> {
    lab: &'a Lab,
    node: String,
}

impl<'a> Powered<'a> {
    pub(crate) fn of(lab: &'a Lab, node: &str) -> Self {
        let node = node.to_owned();
        Self { lab, node }
    }
}

impl Drop for Powered<'_> {
    fn drop(&mut self) {
        if let Ok(node) = self.lab.node(&self.node)
            && !node.is_on()
        {
            let booted = self.lab.boot_node(&self.node);
            booted.unwrap_or_else(|error| eprintln!("{}", virga_lab::chain(&error)));
        }
    }
}

#[tokio::test]
async fn a_lost_node_is_noticed_and_its_guests_start_again_when_it_is_back() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("takes a node's power") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_idle_instances(&t, lab, "10.35.0.0/24").await;
        t.create(idle("lost", &flavor)).await;
        let lost = t.await_within::<Instance>(GUEST, "lost", "Ready", is_ready).await;
        let name = node_of(&lost);
        let powered = Powered::of(lab, &name);
        lab.kill_node(&name).unwrap();

        let told = t
            .await_within::<Instance>(NOTICED, "lost", "its node is lost", |found| {
                condition(found, "Ready").is_some_and(|ready| ready.status == "Unknown" && ready.reason == "NodeLost")
            })
            .await;
        assert_eq!(told.status.as_ref().unwrap().power_state, Some(ObservedPower::Unknown));
        assert_eq!(
            node_of(&told),
            name,
            "nobody may start it elsewhere: the node may only be out of reach"
        );
        t.await_cluster_wide::<Hypervisor>(NOTICED, &name, "not heard of", |found| {
            condition(found, "Ready").is_some_and(|ready| ready.status == "Unknown" && ready.reason == "NodeLost")
        })
        .await;
        // New ones go elsewhere.
        t.create(idle("other", &flavor)).await;
        let other = t.await_within::<Instance>(GUEST, "other", "Ready", is_ready).await;
        assert_ne!(node_of(&other), name);

        lab.boot_node(&name).unwrap();
        drop(powered);
        let back = t.await_within::<Instance>(BACK, "lost", "Ready", is_ready).await;
        assert_eq!(addresses(&back), addresses(&lost));
        assert!(qemu_of(&host(lab, &back), &back) > 0);
        t.await_cluster_wide::<Hypervisor>(NOTICED, &name, "Ready", is_ready)
            .await;
        all_pods_are_ready(&t).await;
    })
    .await;
}

fn addresses(instance: &Instance) -> Vec<String> {
    let status = instance.status.as_ref().unwrap();
    status.addresses.iter().map(|address| address.ip.clone()).collect()
}

/// The next test finds all as it was: a controller may have been on the node.
pub(crate) async fn all_pods_are_ready(t: &Case) {
    eventually("Virga's Pods are ready", BACK, async || {
        let args = [
            "wait",
            "pods",
            "--namespace=virga-system",
            "--all",
            "--for=condition=Ready",
            "--timeout=5s",
        ];
        let said = t.cluster.kubectl_says(&args);
        said.ok.then_some(()).ok_or(said.stderr)
    })
    .await;
}
