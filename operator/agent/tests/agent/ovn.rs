//! What does an agent do for networks that OVN carries? Plug guests in, and nothing else.

use serde_json::json;
use virga_core::network::Backend;
use virga_crds::Network;
use virga_hypervisor::{Hypervisor as _, InterfaceSource};

use crate::world::{SHOP, World, uid};

fn world() -> World {
    let mut world = World::new();
    world.start_with(|options| {
        options.network = Backend::Ovn { underlay_mtu: 1500 };
        options.offloads = false;
    });
    world
}

#[test]
fn a_guest_is_plugged_in_by_its_port_s_uid_and_told_what_a_tunnel_can_carry() {
    let world = world();
    let instance = world.instance("web-1", |_| {});
    let port = world.port(&instance, "10.0.0.5");
    world.await_ready("web-1");
    let spec = world.host.spec(uid(&instance)).unwrap();
    let source = InterfaceSource::OpenVSwitch {
        bridge: "br-int".into(),
        interface_id: uid(&port),
        offloads: false,
    };
    assert_eq!(
        (&spec.interfaces[0].source, spec.interfaces[0].mtu),
        (&source, Some(1442))
    );
    assert_eq!(world.host.networks().unwrap(), []);
    world.settle();
    world.delete("web-1");
    world.await_gone::<virga_crds::Instance>("web-1");
    world.api.collect_garbage();
    world.assert_nothing_left();
}

#[test]
fn a_network_with_packets_too_large_for_the_tunnels_is_refused_with_the_cure() {
    let world = world();
    let spec = json!({"spec": {"mtu": 9000}});
    world.api.merge::<Network>(Some(SHOP), "front", spec);
    world.guest("web-1", "10.0.0.5");
    let condition = world.await_reason("web-1", "NetworkReady", "NetworkNotReady");
    assert!(
        condition.message.contains("spec.mtu: 9000 is more than the 1442"),
        "{}",
        condition.message
    );
}
