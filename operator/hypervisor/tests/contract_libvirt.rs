//! The contract on a real libvirtd with QEMU under TCG.

use uuid::Uuid;
use virga_hypervisor::testing::contract::{Setting, contract};
use virga_hypervisor::testing::node::Node;
use virga_hypervisor::{DomainType, Libvirt, LibvirtOptions};
use virt::connect::Connect;

#[test]
fn libvirt_keeps_the_contract_on_qemu() {
    let Some(node) = Node::start() else { return };
    let libvirt = Libvirt::new(LibvirtOptions {
        uri: node.uri(),
        ..LibvirtOptions::default()
    })
    .expect("libvirt");
    contract(&Setting {
        hypervisor: &libvirt,
        domain_type: DomainType::Qemu,
        data: node.data(),
        add_foreign: &|uuid, name| add_foreign(&node.uri(), uuid, name),
        cannot: &[],
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
