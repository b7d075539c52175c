//! The contract of [`NetworkBackend`], as a suite that every back end passes.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; clippy only knows that of functions marked as tests"
)]

use std::time::Duration;

use uuid::Uuid;
use virga_hypervisor::{
    DomainSpec, DomainType, InterfaceOptions, InterfaceSpec, MacAddress, NetworkInfo, Owner, Topology,
};
use virga_network::{Error, Mode, NetworkBackend, NodeNetwork, NodePort, NodeSubnet, SubnetRoute};

/// What the suite needs besides the back end.
pub struct Setting<'a> {
    /// The back end.
    pub backend: &'a dyn NetworkBackend,
    /// How many calls that change something the back end made since this was asked last; `None` where nobody counts.
    pub writes: &'a dyn Fn() -> Option<usize>,
    /// What is there.
    pub look: &'a dyn Fn(Uuid) -> NetworkInfo,
    /// Plugs a guest into a network, and unplugs it.
    pub set_guest: &'a dyn Fn(&NodeNetwork, bool),
    /// Stops a network behind the back end's back.
    pub stop: &'a dyn Fn(Uuid),
}

pub const DEADLINE: Duration = Duration::from_secs(30);

pub fn network(number: u8) -> NodeNetwork {
    NodeNetwork {
        uid: Uuid::from_u128(0x0f00_0000_0000_4000_8000_0000_0000_0000 | u128::from(number) << 96),
        namespace: "shop".to_owned(),
        name: format!("front-{number}"),
        generation: 1,
        dns_domain: Some("front.shop".to_owned()),
        mtu: Some(1442),
        mode: Mode::Nat,
        subnets: vec![
            NodeSubnet {
                cidr: format!("10.88.{number}.0/24").parse().unwrap(),
                gateway: Some(format!("10.88.{number}.1").parse().unwrap()),
                dhcp: true,
                dns_servers: Vec::new(),
                routes: vec![SubnetRoute {
                    destination: "10.9.0.0/16".parse().unwrap(),
                    next_hop: format!("10.88.{number}.9").parse().unwrap(),
                }],
            },
            NodeSubnet {
                cidr: format!("fd00:88:{number}::/64").parse().unwrap(),
                gateway: Some(format!("fd00:88:{number}::1").parse().unwrap()),
                dhcp: true,
                dns_servers: vec!["2620:fe::fe".parse().unwrap()],
                routes: Vec::new(),
            },
        ],
        ports: Vec::new(),
    }
}

pub fn port(network: u8, number: u8) -> NodePort {
    NodePort {
        uid: Uuid::from_u128(u128::from(number)),
        mac: MacAddress([0xfa, 0x16, 0x3e, network, 0, number]),
        addresses: vec![
            format!("10.88.{network}.{number}").parse().unwrap(),
            format!("fd00:88:{network}::{number}").parse().unwrap(),
        ],
        hostname: format!("web-{number}"),
    }
}

/// A guest that is plugged into the network.
pub fn guest(backend: &dyn NetworkBackend, network: &NodeNetwork) -> DomainSpec {
    let uid = Uuid::from_u128(network.uid.as_u128() + 1);
    let owner = Owner {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        uid,
        generation: 1,
    };
    let mut guest = DomainSpec::new(owner, "virga-guest", DomainType::Qemu, Topology::sockets(1), 64 << 20);
    let plug = backend.plug(network.uid, uid);
    guest.interfaces.push(InterfaceSpec {
        mac: MacAddress([0xfa, 0x16, 0x3e, 0, 0, 1]),
        source: plug.source,
        mtu: network.mtu,
        alias: Some(plug.alias),
        options: InterfaceOptions::default(),
    });
    guest
}

pub async fn contract(setting: &Setting<'_>) {
    assert_eq!(
        setting.backend.list().await.unwrap(),
        [],
        "the node must hold no network of ours"
    );
    a_network_is_made_once_and_then_left_alone(setting).await;
    ports_come_and_go_one_by_one(setting).await;
    a_change_of_structure_waits_for_the_last_guest(setting).await;
    a_range_that_is_taken_is_a_conflict_with_a_cure(setting).await;
    what_can_not_be_is_refused_with_a_reason(setting).await;
    assert_eq!(setting.backend.list().await.unwrap(), []);
}

fn expect_writes(setting: &Setting<'_>, expected: usize, what: &str) {
    if let Some(writes) = (setting.writes)() {
        assert_eq!(writes, expected, "{what}");
    }
}

async fn a_network_is_made_once_and_then_left_alone(setting: &Setting<'_>) {
    let (backend, net) = (setting.backend, network(1));
    let made = backend.ensure(&net).await.unwrap();
    assert!(made.changed && !made.restart_pending);
    assert_eq!((made.bridge.as_str(), made.mtu), ("vbr0f000001", Some(1442)));
    let held = backend.list().await.unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(
        (held[0].uid, held[0].namespace.as_str(), held[0].name.as_str()),
        (net.uid, "shop", "front-1")
    );
    assert!(held[0].active && held[0].connections == 0);
    expect_writes(setting, 2, "define and start");
    for generation in 1..3 {
        let again = backend
            .ensure(&NodeNetwork {
                generation,
                ..net.clone()
            })
            .await
            .unwrap();
        assert!(!again.changed && !again.restart_pending);
    }
    expect_writes(setting, 0, "nothing changed");
    (setting.stop)(net.uid);
    (setting.writes)();
    assert!(
        backend.ensure(&net).await.unwrap().changed,
        "a network that was stopped is started"
    );
    expect_writes(setting, 1, "start");
    for _ in 0..2 {
        backend.remove(net.uid).await.unwrap();
    }
    assert_eq!(backend.list().await.unwrap(), []);
}

async fn ports_come_and_go_one_by_one(setting: &Setting<'_>) {
    let (backend, mut net) = (setting.backend, network(2));
    backend.ensure(&net).await.unwrap();
    (setting.set_guest)(&net, true);
    for ports in [
        vec![port(2, 11)],
        vec![port(2, 11), port(2, 12)],
        vec![port(2, 12)],
        vec![],
    ] {
        net.ports = ports;
        (setting.writes)();
        let changed = backend.ensure(&net).await.unwrap();
        assert!(
            changed.changed && !changed.restart_pending,
            "ports change while guests run"
        );
        let info = (setting.look)(net.uid);
        for spec in [&info.spec, info.live.as_ref().unwrap()] {
            let mut macs: Vec<MacAddress> = spec.subnets[0]
                .dhcp
                .iter()
                .flat_map(|dhcp| dhcp.hosts.iter().map(|host| host.mac))
                .collect();
            macs.sort();
            assert_eq!(macs, net.ports.iter().map(|port| port.mac).collect::<Vec<_>>());
            assert!(
                spec.subnets
                    .iter()
                    .flat_map(|s| &s.dhcp)
                    .all(|dhcp| dhcp.ranges.is_empty()),
                "no open range"
            );
            let names: Vec<_> = spec.dns_hosts.iter().map(|host| host.names.clone()).collect();
            assert_eq!(names.len(), net.ports.len() * 2, "a name for each address");
            for port in &net.ports {
                let both = vec![port.hostname.clone(), format!("{}.front.shop", port.hostname)];
                assert!(names.contains(&both), "{names:?}");
            }
        }
        assert!(!backend.ensure(&net).await.unwrap().changed);
    }
    // Two ports of one instance share its name; a port moves to another address.
    net.ports = vec![
        port(2, 11),
        NodePort {
            hostname: "web-11".to_owned(),
            ..port(2, 12)
        },
    ];
    assert!(backend.ensure(&net).await.unwrap().changed);
    net.ports[1].addresses = vec!["10.88.2.99".parse().unwrap()];
    assert!(backend.ensure(&net).await.unwrap().changed);
    assert!(!backend.ensure(&net).await.unwrap().changed);
    assert!(matches!(
        backend.remove(net.uid).await,
        Err(Error::InUse { connections: 1, .. })
    ));
    (setting.set_guest)(&net, false);
    backend.remove(net.uid).await.unwrap();
}

async fn a_change_of_structure_waits_for_the_last_guest(setting: &Setting<'_>) {
    let (backend, mut net) = (setting.backend, network(3));
    net.ports = vec![port(3, 11)];
    backend.ensure(&net).await.unwrap();
    (setting.set_guest)(&net, true);
    net.mtu = Some(1300);
    net.ports.push(port(3, 12));
    let waiting = backend.ensure(&net).await.unwrap();
    assert!(waiting.changed && waiting.restart_pending);
    let live = (setting.look)(net.uid).live.unwrap();
    assert_eq!(live.mtu, Some(1442), "guests keep their network");
    assert_eq!(
        live.subnets[0].dhcp.as_ref().unwrap().hosts.len(),
        2,
        "a new port does not wait"
    );
    let waiting = backend.ensure(&net).await.unwrap();
    assert!(!waiting.changed && waiting.restart_pending);
    (setting.set_guest)(&net, false);
    let applied = backend.ensure(&net).await.unwrap();
    assert!(applied.changed && !applied.restart_pending);
    assert_eq!((setting.look)(net.uid).live.unwrap().mtu, Some(1300));
    assert!(!backend.ensure(&net).await.unwrap().changed);
    backend.remove(net.uid).await.unwrap();
}

async fn a_range_that_is_taken_is_a_conflict_with_a_cure(setting: &Setting<'_>) {
    let (backend, first, mut second) = (setting.backend, network(4), network(5));
    backend.ensure(&first).await.unwrap();
    second.subnets[0] = first.subnets[0].clone();
    for cidr in ["10.88.4.0/24", "10.88.4.0/25"] {
        second.subnets[0].cidr = cidr.parse().unwrap();
        let error = backend.ensure(&second).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
        assert!(
            error.to_string().contains("shop/front-5") && error.to_string().contains("choose another"),
            "{error}"
        );
        assert_eq!(
            backend.list().await.unwrap().len(),
            1,
            "what can't be started is not left behind"
        );
    }
    backend.remove(first.uid).await.unwrap();
    backend.ensure(&second).await.unwrap();
    backend.remove(second.uid).await.unwrap();
}

async fn what_can_not_be_is_refused_with_a_reason(setting: &Setting<'_>) {
    let backend = setting.backend;
    let mut net = network(6);
    net.subnets.push(NodeSubnet {
        cidr: "10.89.0.0/24".parse().unwrap(),
        gateway: Some("10.89.0.1".parse().unwrap()),
        ..net.subnets[0].clone()
    });
    net.subnets[2].routes.clear();
    let error = backend.ensure(&net).await.unwrap_err();
    assert!(
        matches!(error, Error::Unsupported { .. }) && error.to_string().contains("turn DHCP off"),
        "{error}"
    );
    // Without DHCP a second subnet is fine, whatever its place.
    net.subnets[2].dhcp = false;
    net.subnets.rotate_right(1);
    backend.ensure(&net).await.unwrap();
    assert!(!backend.ensure(&net).await.unwrap().changed);
    backend.remove(net.uid).await.unwrap();

    let mut net = network(6);
    net.subnets[0].gateway = None;
    let error = backend.ensure(&net).await.unwrap_err();
    assert!(
        matches!(error, Error::Unsupported { .. }) && error.to_string().contains("gateway"),
        "{error}"
    );
    // A subnet without gateway and DHCP needs a bridge and no more.
    (net.subnets[0].dhcp, net.ports) = (false, vec![port(6, 11)]);
    backend.ensure(&net).await.unwrap();
    assert!(!backend.ensure(&net).await.unwrap().changed);
    backend.remove(net.uid).await.unwrap();

    let net = NodeNetwork {
        ports: vec![port(7, 11)],
        ..network(6)
    };
    let error = backend.ensure(&net).await.unwrap_err();
    assert!(
        matches!(error, Error::Invalid { .. }) && error.to_string().contains("is in no subnet"),
        "{error}"
    );
}
