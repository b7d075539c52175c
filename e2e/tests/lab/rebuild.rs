//! Is a rebuilt guest the same one with a new root disk?

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;
use virga_crds::{Bytes, Instance, UserData, VolumeAttachment};
use virga_e2e::objects::{instance, plugged, volume};
use virga_e2e::{BOUND, Installation, condition, is_ready, on_node, ready_because, with_temp_namespace};

use crate::{
    GUEST, await_up, domain_of, given_a_place_for_guests, host, marking, marks, nothing_new_is_left, qemu_of, remains,
};

#[tokio::test]
async fn a_rebuilt_guest_keeps_its_address_and_its_volume_and_has_a_new_root_disk() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("reads a console on its node") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.51.0.0/24").await;
        let before = remains(lab);
        t.create(volume("data", Bytes::mib(80))).await;
        let mut anew = plugged(instance("anew", &flavor), "net");
        anew.spec.volumes.push(VolumeAttachment { name: "data".into() });
        anew.spec.user_data = Some(UserData {
            inline: Some(marking("one")),
            secret_ref: None,
        });
        t.create(anew).await;
        let anew = t.await_within::<Instance>(GUEST, "anew", "Ready", is_ready).await;
        let (node, uid) = (host(lab, &anew), anew.uid().unwrap());
        await_up(&node, &anew, 1).await;
        let address = anew.status.as_ref().unwrap().addresses.clone();
        assert_eq!(marks(&on_node::console(&node, &uid)), ["vda: none", "vdb: none"]);

        // What is missing is told, and the guest runs on.
        let qemu = qemu_of(&node, &anew);
        let at = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        t.patch::<Instance>(
            "anew",
            json!({"spec": {"rebuild": {"at": at}, "image": {"name": "nowhere"}}}),
        )
        .await;
        let missing = ready_because("ImageNotFound", "there is no Image \"nowhere\"");
        t.await_within::<Instance>(BOUND, "anew", "ImageNotFound", missing)
            .await;
        assert_eq!(qemu_of(&node, &anew), qemu);

        let at = Timestamp::from_second(Timestamp::now().as_second() + 1).unwrap();
        let spec = json!({"spec": {
            "rebuild": {"at": at}, "image": {"name": "guest"}, "userData": {"inline": marking("two")},
        }});
        t.patch::<Instance>("anew", spec).await;
        // Whatever the agent is doing just now, it is done by the next one.
        node.kill_process("virga-agent").unwrap();
        let rebuilt = t
            .await_within::<Instance>(GUEST, "anew", "rebuilt", |found| {
                let told = found.status.as_ref().and_then(|status| status.rebuild.as_ref());
                is_ready(found) && told.is_some_and(|told| told.at.0 == at && told.finished_at.is_some())
            })
            .await;
        await_up(&node, &anew, 2).await;
        assert_eq!(rebuilt.status.as_ref().unwrap().addresses, address);
        assert_eq!(condition(&rebuilt, "StorageReady").unwrap().status, "True");
        let said = on_node::console(&node, &uid);
        assert_eq!(marks(&said)[2..], ["vda: none", "vdb: one-vdb"], "{said}");
        assert!(said.contains("GUEST-POWER-BUTTON"), "it was asked to shut down: {said}");
        let left = on_node::run(&node, &["ls", &format!("/var/lib/virga/instances/{uid}")]);
        assert!(!left.contains("next."), "{left}");

        // A reboot is no rebuild.
        on_node::run(&node, &["virsh", "destroy", &domain_of(&anew)]);
        await_up(&node, &anew, 3).await;
        assert_eq!(
            marks(&on_node::console(&node, &uid))[4..],
            ["vda: two-vda", "vdb: one-vdb"]
        );
        t.delete::<Instance>(GUEST, "anew").await;
        t.delete::<virga_crds::Volume>(BOUND, "data").await;
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
