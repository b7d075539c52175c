//! Is an image of an Instance what its guest had written, wherever it is used?

use virga_crds::{Image, ImageSource, Instance, InstanceSource, Placement, Quiesce, SchedulerHints};
use virga_e2e::objects::{image, instance, plugged};
use virga_e2e::{BOUND, Installation, is_ready, on_node, with_temp_namespace};

use crate::{GUEST, await_up, given_a_place_for_guests, host, inside, node_of, nothing_new_is_left, qemu_of, remains};

/// In the root disk, behind all that the image has, is a file system that can be frozen: mounts it.
const MOUNT: &str = "modprobe -a loop ext4; losetup -o 251658240 /dev/loop0 /dev/vda; mount -t ext4 /dev/loop0 /mnt";

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
        let make = MOUNT.replace("mount ", "mke2fs -F /dev/loop0; sync; mount ");
        // Not written out: only a guest that is asked to halt its file systems has it on its disk.
        let write = format!("{make}; echo VIRGA-SNAPSHOT-1 >/mnt/mark && echo MARKED");
        inside::run(&node, &origin, &write);
        inside::said(&node, &origin, "MARKED").await;

        t.create(snapshot("copy", "origin", Quiesce::Required)).await;
        let copy = t.await_within::<Image>(GUEST, "copy", "Ready", is_ready).await;
        let status = copy.status.as_ref().unwrap();
        assert_eq!(status.keeper.as_deref(), Some(node_of(&origin).as_str()));
        assert_eq!(status.virtual_size, Some(virga_e2e::objects::tiny().disk));
        assert_eq!(qemu_of(&node, &origin), qemu, "the guest went on");
        inside::run(&node, &origin, "echo 2 >/mnt/mark && echo THAWED");
        inside::said(&node, &origin, "THAWED").await;
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
        inside::run(&other, &second, &format!("{MOUNT}; cat /mnt/mark"));
        inside::said(&other, &second, "VIRGA-SNAPSHOT-1").await;

        for name in ["origin", "second"] {
            t.delete::<Instance>(GUEST, name).await;
        }
        t.delete::<Image>(BOUND, "copy").await;
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
