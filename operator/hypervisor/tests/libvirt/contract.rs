//! The contract on a real libvirtd with QEMU under TCG.

use std::path::PathBuf;

use uuid::Uuid;
use virga_hypervisor::testing::contract::{Ability, Cannot, Setting, contract};
use virga_hypervisor::testing::node::Node;
use virga_hypervisor::{DomainType, Libvirt, LibvirtOptions};
use virt::connect::Connect;

#[test]
fn libvirt_keeps_the_contract_on_qemu() {
    let Some(node) = Node::start() else { return };
    let hosts = node.data().join("networks");
    keeps_the_contract(&node, Some(hosts.clone()));
    let left = std::fs::read_dir(hosts).expect("the directory of networks").count();
    assert_eq!(left, 0, "no file is left of networks that are gone");
}

#[test]
fn libvirt_keeps_the_contract_on_qemu_with_dhcp_hosts_in_its_own_xml() {
    let Some(node) = Node::start() else { return };
    keeps_the_contract(&node, None);
}

fn keeps_the_contract(node: &Node, network_hosts: Option<PathBuf>) {
    let libvirt = Libvirt::new(LibvirtOptions {
        uri: node.uri(),
        network_hosts,
        ..LibvirtOptions::default()
    })
    .expect("libvirt");
    contract(&Setting {
        hypervisor: &libvirt,
        domain_type: DomainType::Qemu,
        data: node.data(),
        add_foreign: &|uuid, name| add_foreign(&node.uri(), uuid, name),
        damage_saved: Some(&|_, name| damage_saved(node, name)),
        cannot: &[Cannot {
            ability: Ability::GuestsLetGoOfDevices,
            because: "a guest of 512 bytes knows nothing of hot-plug: the lab's guest does",
        }],
    });
}

fn add_foreign(uri: &str, uuid: Uuid, name: &str) {
    let connect = Connect::open(Some(uri)).expect("a second connection");
    let domain = format!(
        "<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
         <metadata><other:owner xmlns:other='https://example.org/other'>them</other:owner></metadata>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    );
    connect.define_domain_xml(&domain).expect("defining a foreign domain");
    let network = format!("<network><name>{name}</name><uuid>{uuid}</uuid><bridge name='{name}'/></network>");
    connect
        .define_network_xml(&network)
        .expect("defining a foreign network");
}

/// Puts the mark of a file that is still being written at its beginning: libvirt writes the other one last.
fn damage_saved(node: &Node, name: &str) {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(node.saved_memory(name))
        .expect("the file with the saved memory");
    std::io::Write::write_all(&mut file, b"LibvirtQemudPart").expect("damaging it");
}
