//! The contract on libvirt's test driver: the real client library and its XML parser, no guests.

use uuid::Uuid;
use virga_hypervisor::testing::contract::{Ability, Cannot, Setting, contract};
use virga_hypervisor::{DomainType, Libvirt, LibvirtOptions};
use virt::connect::Connect;

/// All connections of a process share this node. It starts with a domain and a network, neither ours.
const URI: &str = "test:///default";

/// What the test driver can't do, and so is checked on the fake and on QEMU only.
const CANNOT: &[Cannot] = &[
    Cannot {
        ability: Ability::Consoles,
        because: "it has no streams",
    },
    Cannot {
        ability: Ability::ResizeDisks,
        because: "it has no block jobs",
    },
    Cannot {
        ability: Ability::RefuseStartsWithoutNetwork,
        because: "its domains are plugged into nothing",
    },
    Cannot {
        ability: Ability::TellRestoredGuests,
        because: "it calls all of them booted",
    },
    Cannot {
        ability: Ability::KeepDhcpOptions,
        because: "it does not read libvirt's own dnsmasq extension",
    },
    Cannot {
        ability: Ability::KeepADefinitionBesideWhatRuns,
        because: "a network of its has one for both",
    },
    Cannot {
        ability: Ability::CountNetworkConnections,
        because: "its domains are plugged into nothing",
    },
    Cannot {
        ability: Ability::PlugDevices,
        because: "it plugs in disks only, only into what runs, and gives them no addresses",
    },
    Cannot {
        ability: Ability::RefuseATakenBridge,
        because: "its networks have no bridges",
    },
];

#[test]
fn libvirt_keeps_the_contract_on_its_test_driver() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let libvirt = Libvirt::new(LibvirtOptions {
        uri: URI.to_owned(),
        ..LibvirtOptions::default()
    })
    .expect("libvirt");
    contract(&Setting {
        hypervisor: &libvirt,
        domain_type: DomainType::Test,
        data: data.path().to_owned(),
        add_foreign: &add_foreign,
        damage_saved: None,
        cannot: CANNOT,
    });
}

fn add_foreign(uuid: Uuid, name: &str) {
    let connect = Connect::open(Some(URI)).expect("a second connection");
    let domain = format!(
        "<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory>\
         <metadata><other:owner xmlns:other='https://example.org/other'>them</other:owner></metadata>\
         <os><type>hvm</type></os></domain>"
    );
    connect.define_domain_xml(&domain).expect("defining a foreign domain");
    let network = format!("<network><name>{name}</name><uuid>{uuid}</uuid><bridge name='{name}'/></network>");
    connect
        .define_network_xml(&network)
        .expect("defining a foreign network");
}
