//! Does a guest find its new size, on the disk and under the address that it had?

use kube::ResourceExt;
use serde_json::json;
use virga_crds::{Bytes, FlavorSpec, Instance, InstanceState, UserData};
use virga_e2e::objects::{instance, plugged, tiny};
use virga_e2e::{BOUND, Installation, condition, is_ready, on_node, ready_because, with_temp_namespace};

use crate::{GUEST, await_up, given_a_place_for_guests, host, marking, marks, nothing_new_is_left, qemu_of, remains};

/// What tells the size of the machine, at each boot.
pub(crate) const SIZE: &str = "
echo \"GUEST-SIZE cpus=$(grep -c ^processor /proc/cpuinfo) sectors=$(cat /sys/block/vda/size) \\
memory=$(grep MemTotal /proc/meminfo | tr -dc 0-9)\"
";

/// CPUs, sectors of the root disk and KiB of memory, boot by boot.
pub(crate) fn sizes(console: &str) -> Vec<[u64; 3]> {
    let lines = console
        .lines()
        .filter_map(|line| line.trim_end().split_once("GUEST-SIZE "));
    let number = |word: &str| word.split_once('=').and_then(|(_, number)| number.parse().ok());
    lines
        .map(|(_, words)| {
            let numbers: Vec<u64> = words.split_whitespace().filter_map(number).collect();
            numbers.try_into().unwrap_or_else(|_| panic!("{console}"))
        })
        .collect()
}

fn sectors(size: Bytes) -> u64 {
    size.0 / 512
}

#[tokio::test]
async fn a_resized_guest_has_more_cpus_and_memory_and_what_was_on_its_disk() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("reads a console on its node") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let small = given_a_place_for_guests(&t, "10.57.0.0/24").await;
        let larger = |vcpus, memory, disk| FlavorSpec {
            vcpus,
            memory: Bytes::mib(memory),
            disk: Bytes::mib(disk),
            ..tiny()
        };
        let large = t.flavor("large", larger(2, 288, 320)).await;
        let wide = t.flavor("wide", larger(1, 352, 384)).await;
        let vast = t.flavor("vast", larger(512, 288, 384)).await;
        let before = remains(lab);
        let mut sized = plugged(instance("sized", &small), "net");
        sized.spec.user_data = Some(UserData {
            inline: Some(marking("one") + SIZE),
            secret_ref: None,
        });
        t.create(sized).await;
        let sized = t.await_within::<Instance>(GUEST, "sized", "Ready", is_ready).await;
        let (node, uid) = (host(lab, &sized), sized.uid().unwrap());
        await_up(&node, &sized, 1).await;
        let address = sized.status.as_ref().unwrap().addresses.clone();

        // What fits nowhere is told, and the guest runs on.
        let qemu = qemu_of(&node, &sized);
        t.patch::<Instance>("sized", json!({"spec": {"flavor": vast}})).await;
        let refused = ready_because("ResizeRefused", "has no room for");
        t.await_within::<Instance>(BOUND, "sized", "ResizeRefused", refused)
            .await;
        assert_eq!(qemu_of(&node, &sized), qemu);

        t.patch::<Instance>("sized", json!({"spec": {"flavor": large}})).await;
        let resized = t
            .await_within::<Instance>(GUEST, "sized", "resized", |found| {
                let resize = found.status.as_ref().and_then(|status| status.resize.as_ref());
                is_ready(found) && resize.is_some_and(|resize| resize.confirmed_at.is_some())
            })
            .await;
        await_up(&node, &sized, 2).await;
        let status = resized.status.as_ref().unwrap();
        assert_eq!(
            (&status.addresses, status.state),
            (&address, Some(InstanceState::Active))
        );
        assert_eq!(resized.uid().unwrap(), uid);
        assert_eq!(condition(&resized, "StorageReady").unwrap().status, "True");
        let said = on_node::console(&node, &uid);
        assert!(said.contains("GUEST-POWER-BUTTON"), "it was asked to shut down: {said}");
        assert_eq!(marks(&said), ["vda: none", "vda: one-vda"], "{said}");
        let [first, second] = sizes(&said)[..] else {
            panic!("{said}")
        };
        assert_eq!((first[0], second[0]), (1, 2), "{said}");
        assert_eq!(
            (first[1], second[1]),
            (sectors(Bytes::mib(256)), sectors(Bytes::mib(320))),
            "{said}"
        );
        assert!(second[2] > first[2] + 64 * 1024, "{said}");

        // To be confirmed: its disk is as it was, and it goes back.
        let wider = json!({"spec": {"flavor": wide, "resizePolicy": "Confirm"}});
        t.patch::<Instance>("sized", wider).await;
        t.await_within::<Instance>(GUEST, "sized", "Resized", |found| {
            let state = found.status.as_ref().and_then(|status| status.state);
            is_ready(found) && state == Some(InstanceState::Resized)
        })
        .await;
        await_up(&node, &sized, 3).await;
        t.patch::<Instance>("sized", json!({"spec": {"flavor": large}})).await;
        // Whatever the agent is doing just now, it is done by the next one.
        node.kill_process("virga-agent").unwrap();
        let back = t
            .await_within::<Instance>(GUEST, "sized", "taken back", |found| {
                let resize = found.status.as_ref().and_then(|status| status.resize.as_ref());
                is_ready(found) && resize.is_some_and(|resize| resize.reverted_at.is_some())
            })
            .await;
        await_up(&node, &sized, 4).await;
        let status = back.status.as_ref().unwrap();
        assert_eq!(
            (&status.addresses, status.state),
            (&address, Some(InstanceState::Active))
        );
        assert_eq!(status.flavor.as_ref().unwrap().name, large);
        let said = on_node::console(&node, &uid);
        let seen: Vec<_> = sizes(&said).iter().map(|size| (size[0], size[1])).collect();
        let disk = sectors(Bytes::mib(320));
        assert_eq!(seen[2..], [(1, disk), (2, disk)], "{said}");
        t.delete::<Instance>(GUEST, "sized").await;
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
