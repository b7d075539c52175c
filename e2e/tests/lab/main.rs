//! Virga in the lab: the chart installed, agents on three nodes, guests under emulation.
//!
//! The lab is made, or used as it is, by the first test, and stays up. `cargo xtask guest` and `cargo xtask image` must
//! have run before. With `KUBECONFIG` given, the tests run on that cluster, and those that look into a node are skipped.

// In tests a panic is the report.
#![allow(clippy::unwrap_used)]

mod backups;
mod bad_images;
mod chaos;
mod cold_migration;
mod cordon;
mod devices;
mod explain;
mod firmware;
mod health;
mod inside;
mod maintenance;
mod node_loss;
mod ovn;
mod placement;
mod power;
mod properties;
mod rebuild;
mod rescue;
mod resize;
mod resize_move;
mod restarts;
mod samples;
mod shelve;
mod snapshots;
mod user_data;
mod volumes;
mod walk;
mod writes;

use std::path::Path;
use std::time::Duration;

use kube::ResourceExt;
use virga_crds::{Bytes, FlavorSpec, Image, Instance, Network};
use virga_e2e::objects::{guest, image, instance, network, plugged, tiny};
use virga_e2e::on_node::{self, Remains};
use virga_e2e::{BOUND, Case, eventually, is_ready};
use virga_lab::{Lab, Node};

/// How long a guest may take from its creation to its last word, with others beside it on two cores.
const GUEST: Duration = Duration::from_mins(2);

/// A disk with nothing on it. A guest that finds nothing to boot stands still and costs nothing.
const BLANK: &str = "blank.qcow2";

/// The node's name that an Instance is bound to.
fn node_of(instance: &Instance) -> String {
    let node = instance.spec.node_name.clone();
    node.unwrap_or_else(|| panic!("{} is not bound", instance.name_any()))
}

fn host(lab: &Lab, instance: &Instance) -> Node {
    lab.node(&node_of(instance)).unwrap()
}

/// An Instance's libvirt domain.
fn domain_of(instance: &Instance) -> String {
    format!("virga-{}", instance.uid().unwrap().split('-').next().unwrap())
}

/// Makes what guests that boot need: a flavor (its name is returned), a network `net`, an image `guest`.
async fn given_a_place_for_guests(t: &Case, cidr: &str) -> String {
    let flavor = t.flavor("tiny", tiny()).await;
    t.create(guest()).await;
    t.create(network("net", cidr)).await;
    t.await_within::<Image>(GUEST, "guest", "Ready", is_ready).await;
    t.await_condition::<Network>("net", "Ready", is_ready).await;
    flavor
}

/// Waits until a guest has come up so many times.
async fn await_up(node: &Node, instance: &Instance, times: usize) {
    let ready = format!("GUEST-READY host={} ", instance.name_any());
    let uid = instance.uid().unwrap();
    eventually(&format!("it came up {times} times"), GUEST, async || {
        let console = on_node::console(node, &uid);
        (console.matches(&ready).count() >= times).then_some(()).ok_or(console)
    })
    .await;
}

/// A script that tells what is written at 60 MiB of each disk, and writes there that it was here where nothing is.
fn marking(word: &str) -> String {
    format!(
        "#!/bin/sh
for disk in vda vdb vdc; do
    [ -b /dev/$disk ] && [ $(cat /sys/block/$disk/ro) = 0 ] || continue
    mark=$(dd if=/dev/$disk bs=512 skip=122880 count=1 2>/dev/null | tr -d '\\000')
    echo \"GUEST-MARK $disk: ${{mark:-none}}\"
    [ -n \"$mark\" ] || printf '{word}-%s' $disk | dd of=/dev/$disk bs=512 seek=122880 conv=notrunc 2>/dev/null
done
sync
"
    )
}

/// What such scripts told, boot by boot.
fn marks(console: &str) -> Vec<&str> {
    let lines = console.lines();
    lines
        .filter_map(|line| Some(line.trim_end().split_once("GUEST-MARK ")?.1))
        .collect()
}

/// What is on each node.
fn remains(lab: &Lab) -> Vec<Remains> {
    lab.nodes().iter().map(Remains::of).collect()
}

/// Waits until each node has no more than before.
async fn nothing_new_is_left(lab: &Lab, before: &[Remains]) {
    eventually("nothing new is left on the nodes", BOUND, async || {
        let new: Vec<Remains> = remains(lab)
            .into_iter()
            .zip(before)
            .map(|(now, before)| now.without(before))
            .collect();
        let none = new.iter().all(Remains::is_empty);
        none.then_some(()).ok_or_else(|| format!("{new:#?}"))
    })
    .await;
}

/// Makes what Instances that do nothing need: a flavor (its name is returned), a network `net`, an image `blank`.
async fn given_a_place_for_idle_instances(t: &Case, lab: &Lab, cidr: &str) -> String {
    make_blank(&lab.store_dir().join(BLANK));
    let flavor = FlavorSpec {
        memory: Bytes::mib(64),
        disk: Bytes::mib(16),
        ..tiny()
    };
    let flavor = t.flavor("idle", flavor).await;
    t.create(image("blank", BLANK)).await;
    t.create(network("net", cidr)).await;
    t.await_within::<Image>(GUEST, "blank", "Ready", is_ready).await;
    t.await_condition::<Network>("net", "Ready", is_ready).await;
    flavor
}

fn idle(name: &str, flavor: &str) -> Instance {
    let mut instance = plugged(instance(name, flavor), "net");
    if let Some(image) = &mut instance.spec.image {
        image.name = "blank".into();
    }
    instance
}

fn make_blank(place: &Path) {
    if place.exists() {
        return;
    }
    let new = place.with_extension("new");
    qemu_img(&["create", "-q", "-f", "qcow2", &new.to_string_lossy(), "8M"]);
    std::fs::rename(new, place).unwrap();
}

fn qemu_img(args: &[&str]) {
    let output = std::process::Command::new("qemu-img").args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The QEMU process of an Instance.
fn qemu_of(node: &Node, instance: &Instance) -> u32 {
    let domain = domain_of(instance);
    let pid = on_node::run(node, &["cat", &format!("/run/libvirt/qemu/{domain}.pid")]);
    pid.trim().parse().unwrap()
}
