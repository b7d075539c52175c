//! Does a guest do what `spec.powerState` says?

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;
use virga_crds::{Instance, InstanceState, ObservedPower};
use virga_e2e::objects::{instance, plugged};
use virga_e2e::{BOUND, Case, Installation, condition, eventually, is_ready, on_node, with_temp_namespace};

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

#[tokio::test]
async fn a_suspended_guest_has_no_process_and_goes_on_where_it_was() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("reads a console on its node") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.39.0.0/24").await;
        let before = remains(lab);
        t.create(plugged(instance("sleeper", &flavor), "net")).await;
        let sleeper = t.await_within::<Instance>(GUEST, "sleeper", "Ready", is_ready).await;
        let (node, uid) = (host(lab, &sleeper), sleeper.uid().unwrap());
        await_up(&node, &sleeper, 1).await;
        let address = sleeper.status.as_ref().unwrap().addresses[0].ip.clone();

        let suspended = asked_to_be(&t, "sleeper", "Suspended", InstanceState::Suspended).await;
        let status = suspended.status.as_ref().unwrap();
        assert_eq!(status.power_state, Some(ObservedPower::Suspended));
        let saved = format!("/var/lib/libvirt/qemu/save/{}.save", domain_of(&sleeper));
        on_node::run(&node, &["test", "-s", &saved]);
        // Neither the agent nor libvirtd is needed to keep it.
        node.kill_process("virga-agent").unwrap();
        node.kill_process("libvirtd").unwrap();

        asked_to_be(&t, "sleeper", "Running", InstanceState::Active).await;
        eventually("its web server answers again", BOUND, async || {
            on_node::page(&node, &address).map(drop)
        })
        .await;
        let said = on_node::console(&node, &uid);
        assert_eq!(said.matches("GUEST-READY").count(), 1, "it did not boot again: {said}");
        let why = on_node::run(&node, &["virsh", "domstate", "--reason", &domain_of(&sleeper)]);
        assert_eq!(why.trim(), "running (restored)");

        asked_to_be(&t, "sleeper", "Suspended", InstanceState::Suspended).await;
        t.delete::<Instance>(GUEST, "sleeper").await;
        nothing_new_is_left(lab, &before).await;
        assert!(
            node.run(&["test", "-e", &saved]).is_err(),
            "its saved memory is gone too"
        );
    })
    .await;
}

#[tokio::test]
async fn a_guest_is_rebooted_once_for_each_time_and_left_off_where_its_policy_says_so() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("reads a console on its node") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.40.0.0/24").await;
        let before = remains(lab);
        t.create(plugged(instance("again", &flavor), "net")).await;
        let again = t.await_within::<Instance>(GUEST, "again", "Ready", is_ready).await;
        let node = host(lab, &again);
        await_up(&node, &again, 1).await;
        for (boots, type_) in [(2, "Soft"), (3, "Hard")] {
            let qemu = qemu_of(&node, &again);
            let at = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
            let spec = json!({"spec": {"reboot": {"at": at, "type": type_}}});
            t.patch::<Instance>("again", spec).await;
            t.await_within::<Instance>(GUEST, "again", type_, |found| {
                let told = found.status.as_ref().and_then(|status| status.reboot.as_ref());
                is_ready(found) && told.is_some_and(|told| told.at.0 == at && told.finished_at.is_some())
            })
            .await;
            await_up(&node, &again, boots).await;
            assert_ne!(qemu_of(&node, &again), qemu);
        }
        let said = on_node::console(&node, &again.uid().unwrap());
        assert_eq!(
            said.matches("GUEST-POWER-BUTTON").count(),
            1,
            "only the soft one: {said}"
        );

        t.patch::<Instance>("again", json!({"spec": {"runPolicy": "OnFailure"}}))
            .await;
        t.await_within::<Instance>(BOUND, "again", "Ready", is_ready).await;
        // As good as the guest's own: nobody told the agent.
        on_node::run(&node, &["virsh", "shutdown", &domain_of(&again)]);
        t.await_within::<Instance>(GUEST, "again", "left off", |found| {
            let state = found.status.as_ref().and_then(|status| status.state);
            is_ready(found) && state == Some(InstanceState::Stopped)
        })
        .await;
        t.delete::<Instance>(GUEST, "again").await;
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
