//! Ports of a network that no guest has any more: what is left when libvirtd is killed while a guest starts or ends.

use uuid::Uuid;
use virga_hypervisor::testing::node::Node;
use virga_hypervisor::{ForwardMode, Hypervisor, NetworkSpec, Owner, SubnetSpec};

use crate::stage::connect;

fn network() -> NetworkSpec {
    let uid = Uuid::from_u128(0x0c00_0001_0000_4000_8000_0000_0000_0000);
    NetworkSpec {
        uuid: uid,
        name: "virga-0c000001".to_owned(),
        owner: Owner {
            namespace: "shop".to_owned(),
            name: "front".to_owned(),
            uid,
            generation: 1,
        },
        bridge: "vbr0c000001".to_owned(),
        mode: ForwardMode::Nat,
        mtu: None,
        domain: None,
        subnets: vec![SubnetSpec {
            address: "10.68.0.1".parse().expect("an address"),
            prefix: 24,
            dhcp: None,
        }],
        dns_hosts: Vec::new(),
    }
}

#[test]
fn a_port_whose_guest_does_not_run_is_counted_by_libvirt_alone_and_goes_with_its_network() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    let network = network();
    libvirt.define_network(&network).expect("defining");
    libvirt.start_network(network.uuid).expect("starting");
    assert_eq!(libvirt.plugged(network.uuid).expect("looking"), 0);

    let port = format!(
        "<networkport><uuid>{}</uuid><owner><name>gone</name><uuid>{}</uuid></owner>\
         <mac address=\"fa:16:3e:00:00:01\"/></networkport>",
        Uuid::from_u128(1),
        Uuid::from_u128(2)
    );
    let file = node.data().join("port.xml");
    std::fs::write(&file, port).expect("writing the port");
    let made = node.shell(&format!(
        "virsh --connect '{}' net-port-create {} {} 2>&1",
        node.uri(),
        network.name,
        file.display()
    ));
    assert_eq!(libvirt.network(network.uuid).expect("reading").connections, 1, "{made}");
    assert_eq!(libvirt.plugged(network.uuid).expect("looking"), 0);
    libvirt.remove_network(network.uuid).expect("removing");
    assert_eq!(libvirt.networks().expect("listing"), []);
}
