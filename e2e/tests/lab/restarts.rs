//! Virga's processes come and go; guests stay.

use std::time::Duration;

use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use virga_crds::{Instance, InstanceState};
use virga_e2e::on_node::Remains;
use virga_e2e::{BOUND, Installation, eventually, is_ready, with_temp_namespace};

use crate::{GUEST, domain_of, given_a_place_for_idle_instances, host, idle, qemu_of};

/// A Pod that ended starts again, with the kubelet's back-off.
const POD: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_guest_outlives_its_agent_and_libvirtd_and_is_looked_after_again() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("kills processes on nodes") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_idle_instances(&t, lab, "10.32.0.0/24").await;
        let before: Vec<Remains> = lab.nodes().iter().map(Remains::of).collect();
        t.create(idle("stays", &flavor)).await;
        let stays = t.await_within::<Instance>(GUEST, "stays", "Ready", is_ready).await;
        let node = host(lab, &stays);
        let qemu = qemu_of(&node, &stays);

        node.kill_process("virga-agent").unwrap();
        // Work that comes while it is away is done when it is back.
        t.patch::<Instance>("stays", json!({"spec": {"powerState": "Paused"}}))
            .await;
        t.await_within::<Instance>(POD, "stays", "paused", |found| {
            is_ready(found)
                && found
                    .status
                    .as_ref()
                    .is_some_and(|status| status.state == Some(InstanceState::Paused))
        })
        .await;
        assert_eq!(qemu_of(&node, &stays), qemu);

        node.kill_process("libvirtd").unwrap();
        t.patch::<Instance>("stays", json!({"spec": {"powerState": "Running"}}))
            .await;
        t.await_within::<Instance>(POD, "stays", "running again", |found| {
            is_ready(found)
                && found
                    .status
                    .as_ref()
                    .is_some_and(|status| status.state == Some(InstanceState::Active))
        })
        .await;
        assert_eq!(qemu_of(&node, &stays), qemu);

        t.cluster.kubectl(&[
            "rollout",
            "restart",
            "daemonset/virga-agent",
            "--namespace=virga-system",
        ]);
        t.cluster.kubectl(&[
            "rollout",
            "status",
            "daemonset/virga-agent",
            "--namespace=virga-system",
            "--timeout=120s",
        ]);
        assert_eq!(qemu_of(&node, &stays), qemu);
        let new = |before: &[Remains]| -> usize {
            let now = lab.nodes();
            let now = now
                .iter()
                .zip(before)
                .map(|(node, before)| Remains::of(node).without(before));
            now.map(|new| new.processes.len()).sum()
        };
        assert_eq!(new(&before), 1);
        t.delete::<Instance>(POD, "stays").await;
        assert_eq!(new(&before), 0);
    })
    .await;
}

#[tokio::test]
async fn a_guest_outlives_an_upgrade_and_an_uninstall_and_is_adopted_by_the_next() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("uninstalls the chart") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_idle_instances(&t, lab, "10.33.0.0/24").await;
        t.create(idle("stays", &flavor)).await;
        let stays = t.await_within::<Instance>(GUEST, "stays", "Ready", is_ready).await;
        let node = host(lab, &stays);
        let qemu = qemu_of(&node, &stays);

        installation.install(&["--set=agent.logLevel=debug"]);
        assert_eq!(qemu_of(&node, &stays), qemu);

        t.cluster.helm(&[
            "uninstall",
            "virga",
            "--namespace=virga-system",
            "--wait",
            "--timeout=120s",
        ]);
        assert_eq!(qemu_of(&node, &stays), qemu);
        let kept = t.api::<Instance>().get("stays").await.unwrap();
        assert_eq!(kept.uid(), stays.uid());
        assert!(kept.metadata.deletion_timestamp.is_none());

        installation.install(&[]);
        t.await_within::<Instance>(POD, "stays", "Ready", is_ready).await;
        assert_eq!(qemu_of(&node, &stays), qemu);
        // It is in the hands of the new ones: they take it down, and all of it.
        t.delete::<Instance>(POD, "stays").await;
        let domains = virga_e2e::on_node::run(&node, &["virsh", "list", "--all", "--name"]);
        assert!(!domains.contains(&domain_of(&stays)), "{domains}");
    })
    .await;
}

#[tokio::test]
async fn admission_goes_on_when_the_leader_ends() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("puts a disk into the nodes' store") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_idle_instances(&t, lab, "10.34.0.0/24").await;
        t.cluster.kubectl(&[
            "delete",
            "pods",
            "--namespace=virga-system",
            "--selector=virga.dev/leader=true",
            "--wait=false",
            "--grace-period=0",
            "--force",
        ]);
        // Validation may be without an answer for a moment; nobody has to try for long.
        eventually("an Instance is admitted", BOUND, async || {
            let made = t
                .api::<Instance>()
                .create(&kube::api::PostParams::default(), &idle("late", &flavor))
                .await;
            made.map(drop).map_err(|error| error.to_string())
        })
        .await;
        t.await_within::<Instance>(POD, "late", "Ready", is_ready).await;
        let leaders = eventually("there is one leader", BOUND, async || {
            let pods: kube::Api<k8s_openapi::api::core::v1::Pod> =
                kube::Api::namespaced(t.client.clone(), "virga-system");
            let leading = ListParams::default().labels("virga.dev/leader=true");
            let found = pods.list(&leading).await.map_err(|error| error.to_string())?;
            let alive: Vec<String> = found
                .items
                .iter()
                .filter(|pod| pod.metadata.deletion_timestamp.is_none())
                .map(ResourceExt::name_any)
                .collect();
            (alive.len() == 1)
                .then_some(alive.clone())
                .ok_or_else(|| format!("{alive:?}"))
        })
        .await;
        assert_eq!(leaders.len(), 1);
    })
    .await;
}
