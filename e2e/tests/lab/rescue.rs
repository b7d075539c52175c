//! Does a rescued guest boot from another disk, with its own beside it?

use kube::ResourceExt;
use serde_json::json;
use virga_crds::{Bytes, Instance, InstanceState, UserData, VolumeAttachment};
use virga_e2e::objects::{instance, plugged, volume};
use virga_e2e::{BOUND, Case, Installation, is_ready, on_node, ready_because, with_temp_namespace};

use crate::{GUEST, await_up, given_a_place_for_guests, host, marking, marks, nothing_new_is_left, qemu_of, remains};

async fn comes_to(t: &Case, state: InstanceState) {
    t.await_within::<Instance>(GUEST, "ill", "Ready", |found| {
        is_ready(found) && found.status.as_ref().is_some_and(|status| status.state == Some(state))
    })
    .await;
}

#[tokio::test]
async fn a_rescued_guest_sees_its_root_disk_second_and_boots_from_it_again_afterwards() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("reads a console on its node") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.52.0.0/24").await;
        let before = remains(lab);
        t.create(volume("data", Bytes::mib(80))).await;
        let mut ill = plugged(instance("ill", &flavor), "net");
        ill.spec.volumes.push(VolumeAttachment { name: "data".into() });
        ill.spec.user_data = Some(UserData {
            inline: Some(marking("own")),
            secret_ref: None,
        });
        t.create(ill).await;
        let ill = t.await_within::<Instance>(GUEST, "ill", "Ready", is_ready).await;
        let (node, uid) = (host(lab, &ill), ill.uid().unwrap());
        await_up(&node, &ill, 1).await;
        let qemu = qemu_of(&node, &ill);

        t.patch::<Instance>("ill", json!({"spec": {"rescue": {"image": {"name": "nowhere"}}}}))
            .await;
        let missing = ready_because("ImageNotFound", "spec.rescue.image: there is no Image \"nowhere\"");
        t.await_within::<Instance>(BOUND, "ill", "ImageNotFound", missing).await;
        assert_eq!(qemu_of(&node, &ill), qemu, "it runs on");
        t.patch::<Instance>("ill", json!({"spec": {"rescue": null}})).await;
        comes_to(&t, InstanceState::Active).await;
        assert_eq!(qemu_of(&node, &ill), qemu);

        t.patch::<Instance>("ill", json!({"spec": {"rescue": {}}})).await;
        node.kill_process("virga-agent").unwrap();
        comes_to(&t, InstanceState::Rescued).await;
        await_up(&node, &ill, 2).await;
        let said = on_node::console(&node, &uid);
        assert_eq!(
            marks(&said)[2..],
            ["vda: none", "vdb: own-vda", "vdc: own-vdb"],
            "{said}"
        );

        t.patch::<Instance>("ill", json!({"spec": {"rescue": null}})).await;
        comes_to(&t, InstanceState::Active).await;
        await_up(&node, &ill, 3).await;
        let said = on_node::console(&node, &uid);
        assert_eq!(marks(&said)[5..], ["vda: own-vda", "vdb: own-vdb"], "{said}");
        let left = on_node::run(&node, &["ls", &format!("/var/lib/virga/instances/{uid}")]);
        assert!(!left.contains("rescue."), "{left}");
        t.delete::<Instance>(GUEST, "ill").await;
        t.delete::<virga_crds::Volume>(BOUND, "data").await;
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
