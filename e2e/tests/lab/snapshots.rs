//! Is an image of an Instance what its guest had written, wherever it is used?

use kube::ResourceExt;
use virga_crds::{Image, ImageSource, Instance, InstanceSource, Placement, Quiesce, SchedulerHints};
use virga_e2e::objects::{image, instance, plugged};
use virga_e2e::{BOUND, Installation, eventually, is_ready, on_node, with_temp_namespace};
use virga_lab::Node;

use crate::{
    GUEST, await_up, domain_of, given_a_place_for_guests, host, node_of, nothing_new_is_left, qemu_of, remains,
};

/// Near the end of the root disk, behind all that the image has.
const SECTOR: u32 = 524_000;

/// Runs a script in the guest, through its agent.
fn in_guest(node: &Node, instance: &Instance, script: &str) {
    let command = serde_json::json!({
        "execute": "guest-exec",
        "arguments": {"path": "/bin/sh", "arg": ["-c", script]},
    });
    on_node::run(
        node,
        &[
            "virsh",
            "qemu-agent-command",
            &domain_of(instance),
            &command.to_string(),
        ],
    );
}

fn snapshot(name: &str, of: &str, quiesce: Quiesce) -> Image {
    let mut image = image(name, "unused");
    image.spec.source = ImageSource {
        instance: Some(InstanceSource {
            name: of.into(),
            quiesce,
        }),
        ..ImageSource::default()
    };
    image
}

#[tokio::test]
async fn what_a_running_guest_had_written_is_on_another_node_in_an_instance_of_its_snapshot() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("writes to a guest's disk") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.61.0.0/24").await;
        let before = remains(lab);
        t.create(plugged(instance("origin", &flavor), "net")).await;
        let origin = t.await_within::<Instance>(GUEST, "origin", "Ready", is_ready).await;
        let node = host(lab, &origin);
        await_up(&node, &origin, 1).await;
        let qemu = qemu_of(&node, &origin);
        let write = format!("echo VIRGA-SNAPSHOT-1 >/run/mark; dd if=/run/mark of=/dev/vda bs=512 seek={SECTOR} conv=sync; sync; echo MARKED >/dev/console");
        in_guest(&node, &origin, &write);
        let uid = origin.uid().unwrap();
        eventually("the guest has written", BOUND, async || {
            let said = on_node::console(&node, &uid);
            said.contains("MARKED").then_some(()).ok_or(said)
        })
        .await;

        t.create(snapshot("copy", "origin", Quiesce::Required)).await;
        let copy = t.await_within::<Image>(GUEST, "copy", "Ready", is_ready).await;
        let status = copy.status.as_ref().unwrap();
        assert_eq!(status.keeper.as_deref(), Some(node_of(&origin).as_str()));
        assert_eq!(status.virtual_size, Some(virga_e2e::objects::tiny().disk));
        assert_eq!(qemu_of(&node, &origin), qemu, "the guest went on");
        on_node::run(&node, &["sh", "-c", "test -z \"$(ls -A /var/lib/virga/snapshots)\""]);

        let mut second = plugged(instance("second", &flavor), "net");
        second.spec.image.as_mut().unwrap().name = "copy".into();
        second.spec.placement = Some(Placement {
            hints: Some(SchedulerHints {
                different_host: vec!["origin".into()],
                ..SchedulerHints::default()
            }),
            ..Placement::default()
        });
        t.create(second).await;
        let second = t.await_within::<Instance>(GUEST, "second", "Ready", is_ready).await;
        assert_ne!(node_of(&second), node_of(&origin));
        let other = host(lab, &second);
        await_up(&other, &second, 1).await;
        in_guest(&other, &second, &format!("dd if=/dev/vda bs=512 skip={SECTOR} count=1 >/dev/console"));
        let uid = second.uid().unwrap();
        eventually("the other guest reads it", BOUND, async || {
            let said = on_node::console(&other, &uid);
            said.contains("VIRGA-SNAPSHOT-1").then_some(()).ok_or(said)
        })
        .await;

        for name in ["origin", "second"] {
            t.delete::<Instance>(GUEST, name).await;
        }
        t.delete::<Image>(BOUND, "copy").await;
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
