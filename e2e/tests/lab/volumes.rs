//! Does a Volume follow its spec, whoever uses it?

use kube::ResourceExt;
use serde_json::{Value, json};
use virga_crds::{Bytes, Instance, Volume, VolumeAttachment, VolumeState};
use virga_e2e::objects::volume;
use virga_e2e::{BOUND, Case, Installation, is_ready, on_node, with_temp_namespace};
use virga_lab::Node;

use crate::{GUEST, domain_of, given_a_place_for_idle_instances, host, idle, nothing_new_is_left, qemu_of, remains};

async fn settled(t: &Case, state: VolumeState, size: Bytes) -> Volume {
    let what = format!("{state:?} and {size}");
    t.await_within::<Volume>(BOUND, "data", &what, |found| {
        let status = found.status.clone().unwrap_or_default();
        is_ready(found) && status.state == Some(state) && status.size == Some(size)
    })
    .await
}

/// How large the disk in the file is.
fn on_disk(node: &Node, file: &str) -> u64 {
    let told = on_node::run(node, &["qemu-img", "info", "--force-share", "--output=json", file]);
    let told: Value = serde_json::from_str(&told).unwrap();
    told["virtual-size"].as_u64().unwrap()
}

#[tokio::test]
async fn a_volume_grows_under_a_running_guest_and_without_one() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("looks at a domain's disks on its node") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_idle_instances(&t, lab, "10.40.0.0/24").await;
        let before = remains(lab);
        let (small, larger, largest) = (Bytes::mib(16), Bytes::mib(32), Bytes::mib(48));
        t.create(volume("data", small)).await;
        let mut user = idle("user", &flavor);
        user.spec.volumes.push(VolumeAttachment { name: "data".into() });
        t.create(user).await;
        let user = t.await_within::<Instance>(GUEST, "user", "Ready", is_ready).await;
        let data = settled(&t, VolumeState::InUse, small).await;
        let node = host(lab, &user);
        let qemu = qemu_of(&node, &user);
        let file = format!("/var/lib/virga/volumes/{}.qcow2", data.uid().unwrap());
        assert_eq!(on_disk(&node, &file), small.0);

        t.patch::<Volume>("data", json!({"spec": {"size": larger}})).await;
        settled(&t, VolumeState::InUse, larger).await;
        assert_eq!(on_disk(&node, &file), larger.0);
        let device = &data.status.as_ref().unwrap().attachments[0].device;
        let seen = on_node::run(&node, &["virsh", "domblkinfo", &domain_of(&user), device]);
        let capacity = seen.lines().find_map(|line| line.strip_prefix("Capacity:"));
        assert_eq!(capacity.map(str::trim), Some(larger.0.to_string().as_str()), "{seen}");
        assert_eq!(qemu_of(&node, &user), qemu);

        t.delete::<Instance>(BOUND, "user").await;
        settled(&t, VolumeState::Available, larger).await;
        t.patch::<Volume>("data", json!({"spec": {"size": largest}})).await;
        settled(&t, VolumeState::Available, largest).await;
        assert_eq!(on_disk(&node, &file), largest.0);

        t.delete::<Volume>(BOUND, "data").await;
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
