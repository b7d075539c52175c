//! Do volumes and interfaces come and go while a guest runs?

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use virga_crds::{Bytes, Instance, Network, Placement, Port, SchedulerHints, Volume, VolumeState};
use virga_e2e::objects::{instance, network, plugged, volume};
use virga_e2e::{BOUND, Case, Installation, condition, eventually, is_ready, on_node, with_temp_namespace};

use crate::{
    GUEST, await_up, domain_of, given_a_place_for_guests, host, inside, nothing_new_is_left, qemu_of, remains,
};

/// A script that does something with the disk of a volume, `$disk`.
fn on_disk(volume: &Volume, script: &str) -> String {
    let serial: String = volume.uid().unwrap().chars().take(20).collect();
    format!(
        "for block in /sys/block/vd*; do [ \"$(cat $block/serial)\" = {serial} ] || continue; disk=/dev/${{block##*/}}; \
         {script}; done"
    )
}

async fn with_volumes(t: &Case, name: &str, volumes: Value) -> Instance {
    t.patch::<Instance>(name, json!({"spec": {"volumes": volumes}})).await;
    t.await_within::<Instance>(BOUND, name, "Ready", is_current).await
}

/// Ready, and of the present spec.
fn is_current(instance: &Instance) -> bool {
    let observed = instance.status.as_ref().and_then(|status| status.observed_generation);
    is_ready(instance) && observed == instance.metadata.generation
}

async fn held_by(t: &Case, name: &str, holder: &str) -> Volume {
    t.await_within::<Volume>(BOUND, name, holder, |found| {
        let status = found.status.clone().unwrap_or_default();
        let holders: Vec<_> = status.attachments.iter().map(|at| at.instance.as_str()).collect();
        is_ready(found) && status.state == Some(VolumeState::InUse) && holders == [holder]
    })
    .await
}

#[tokio::test]
async fn volumes_and_interfaces_come_and_go_and_data_moves_between_guests() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("reads a console on its node") else {
        return;
    };
    // Its steps are many: the future is too large for the stack.
    Box::pin(with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.46.0.0/24").await;
        t.create(network("side", "10.47.0.0/24")).await;
        t.await_condition::<Network>("side", "Ready", is_ready).await;
        let before = remains(lab);
        t.create(volume("data", Bytes::mib(16))).await;
        t.create(plugged(instance("one", &flavor), "net")).await;
        let one = t.await_within::<Instance>(GUEST, "one", "Ready", is_ready).await;
        let mut two = plugged(instance("two", &flavor), "net");
        two.spec.placement = Some(Placement {
            hints: Some(SchedulerHints {
                same_host: vec!["one".into()],
                ..SchedulerHints::default()
            }),
            ..Placement::default()
        });
        t.create(two).await;
        let two = t.await_within::<Instance>(GUEST, "two", "Ready", is_ready).await;
        let node = host(lab, &one);
        await_up(&node, &one, 1).await;
        await_up(&node, &two, 1).await;
        let processes = [qemu_of(&node, &one), qemu_of(&node, &two)];

        // A volume that is on no host yet comes into a guest that runs.
        with_volumes(&t, "one", json!([{"name": "data"}])).await;
        let data = held_by(&t, "data", "one").await;
        assert_eq!(data.status.as_ref().unwrap().attachments[0].device, "vdb");
        let write = on_disk(
            &data,
            "echo KEPT-$((40 + 2)) >$disk; sync; echo WROTE-$(head -c 7 $disk)",
        );
        inside::says(&node, &one, &write, "WROTE-KEPT-42").await;

        // By two edits it is another guest's, with its data.
        let early = Patch::Merge(json!({"spec": {"volumes": [{"name": "data"}]}}));
        let refused = t.api::<Instance>().patch("two", &PatchParams::default(), &early).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("belongs to Instance \"one\""), "{refused}");
        with_volumes(&t, "one", json!([])).await;
        inside::says(
            &node,
            &one,
            &format!("{}; echo GONE-END", on_disk(&data, "echo STILL-THERE")),
            "GONE-END",
        )
        .await;
        with_volumes(&t, "two", json!([{"name": "data"}])).await;
        held_by(&t, "data", "two").await;
        inside::says(
            &node,
            &two,
            &on_disk(&data, "echo READ-$(head -c 7 $disk)"),
            "READ-KEPT-42",
        )
        .await;
        assert!(!on_node::console(&node, &one.uid().unwrap()).contains("STILL-THERE"));

        // An interface comes, answers, and goes with its address.
        let both = json!({"spec": {"interfaces": [{"network": "net"}, {"network": "side"}]}});
        t.patch::<Instance>("one", both).await;
        let plugged = t.await_within::<Instance>(BOUND, "one", "Ready", is_current).await;
        let addresses = plugged.status.as_ref().unwrap().addresses.clone();
        let side = addresses.iter().find(|address| address.network == "side").unwrap();
        eventually("it answers on its second address", GUEST, async || {
            on_node::page(&node, &side.ip).map(drop)
        })
        .await;
        t.patch::<Instance>("one", json!({"spec": {"interfaces": [{"network": "net"}]}}))
            .await;
        let unplugged = t.await_within::<Instance>(BOUND, "one", "Ready", is_current).await;
        assert_eq!(unplugged.status.as_ref().unwrap().addresses.len(), 1);
        t.await_gone::<Port>(BOUND, "one-side").await;
        inside::says(
            &node,
            &one,
            "for nic in /sys/class/net/*/address; do echo NIC-$(cat $nic); done; echo NICS-END",
            "NICS-END",
        )
        .await;

        // What is taken away by hand is put back, what is added is told of.
        let domain = domain_of(&two);
        on_node::run(&node, &["virsh", "detach-disk", &domain, "vdb", "--live"]);
        inside::says(
            &node,
            &two,
            &on_disk(&data, "echo BACK-$(head -c 7 $disk)"),
            "BACK-KEPT-42",
        )
        .await;
        let net = t.await_condition::<Network>("net", "Ready", is_ready).await;
        let net = format!("virga-{}", net.uid().unwrap().split('-').next().unwrap());
        on_node::run(
            &node,
            &[
                "virsh",
                "attach-interface",
                &domain,
                "network",
                &net,
                "--model",
                "virtio",
                "--live",
            ],
        );
        t.await_within::<Instance>(BOUND, "two", "Drifted", |found| {
            condition(found, "Drifted").is_some_and(|drifted| drifted.reason == "ChangedByHand")
        })
        .await;
        assert_eq!(
            [qemu_of(&node, &one), qemu_of(&node, &two)],
            processes,
            "no guest was started again"
        );

        t.delete::<Instance>(GUEST, "one").await;
        t.delete::<Instance>(GUEST, "two").await;
        t.delete::<Volume>(BOUND, "data").await;
        nothing_new_is_left(lab, &before).await;
    }))
    .await;
}
