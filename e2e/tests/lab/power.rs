//! Does a guest do what `spec.powerState` says?

use kube::ResourceExt;
use serde_json::json;
use virga_crds::{Instance, InstanceState, ObservedPower};
use virga_e2e::objects::{instance, plugged};
use virga_e2e::{BOUND, Case, Installation, condition, is_ready, on_node, with_temp_namespace};

use crate::{GUEST, await_up, domain_of, given_a_place_for_guests, host, nothing_new_is_left, qemu_of, remains};

/// Asks for a power state, and waits until it is so and the Instance is Ready.
async fn asked_to_be(t: &Case, name: &str, wanted: &str, state: InstanceState) -> Instance {
    t.patch::<Instance>(name, json!({"spec": {"powerState": wanted}})).await;
    t.await_within::<Instance>(BOUND, name, wanted, |found| {
        is_ready(found) && found.status.as_ref().is_some_and(|status| status.state == Some(state))
    })
    .await
}

#[tokio::test]
async fn a_guest_hears_the_power_button_and_is_started_again() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("reads a console on its node") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.38.0.0/24").await;
        let before = remains(lab);
        t.create(plugged(instance("toggled", &flavor), "net")).await;
        let toggled = t.await_within::<Instance>(GUEST, "toggled", "Ready", is_ready).await;
        let node = host(lab, &toggled);
        await_up(&node, &toggled, 1).await;
        let first = qemu_of(&node, &toggled);

        let stopped = asked_to_be(&t, "toggled", "Stopped", InstanceState::Stopped).await;
        let status = stopped.status.as_ref().unwrap();
        assert_eq!(status.power_state, Some(ObservedPower::Stopped));
        assert_eq!(condition(&stopped, "Running").unwrap().status, "False");
        assert_eq!(condition(&stopped, "Reconciling"), None);
        let said = on_node::console(&node, &toggled.uid().unwrap());
        assert!(said.contains("GUEST-POWER-BUTTON"), "{said}");
        // Had its process been ended, libvirt would say "destroyed".
        let why = on_node::run(&node, &["virsh", "domstate", "--reason", &domain_of(&toggled)]);
        assert_eq!(why.trim(), "shut off (shutdown)");
        assert!(!on_node::qemu_processes(&node).contains(&first));

        let started = asked_to_be(&t, "toggled", "Running", InstanceState::Active).await;
        assert_eq!(condition(&started, "Running").unwrap().status, "True");
        assert_ne!(qemu_of(&node, &toggled), first);
        await_up(&node, &toggled, 2).await;

        t.delete::<Instance>(GUEST, "toggled").await;
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
