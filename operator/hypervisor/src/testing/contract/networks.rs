//! The contract's part on networks.

use std::net::IpAddr;

use uuid::Uuid;

use super::{Ability, Setting, expect_kind};
use crate::{
    Dhcp, DhcpHost, DnsHost, ForwardMode, InterfaceOptions, InterfaceSource, InterfaceSpec, Kind, MacAddress,
    NetworkSpec, NetworkUpdate, Owner, Route, SubnetSpec, network_diff,
};

pub(super) fn check(setting: &Setting<'_>) {
    a_network_lives_and_every_step_can_be_repeated(setting);
    entries_change_one_by_one_while_the_network_runs(setting);
    a_change_of_structure_waits_for_a_restart(setting);
    guests_on_a_network_are_counted(setting);
    what_another_network_has_is_refused(setting);
    what_is_not_there_is_not_found(setting);
    what_can_not_be_right_is_refused(setting);
    what_is_foreign_is_left_alone(setting);
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn host(number: u8, address: &str, name: Option<&str>) -> DhcpHost {
    let mac = MacAddress([0xfa, 0x16, 0x3e, 0, 0, number]);
    DhcpHost {
        mac,
        address: ip(address),
        name: name.map(ToOwned::to_owned),
    }
}

fn dns(address: &str, names: &[&str]) -> DnsHost {
    DnsHost {
        address: ip(address),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn network(setting: &Setting<'_>, number: u8) -> NetworkSpec {
    let options = setting.can(Ability::KeepDhcpOptions);
    let v4_options = Dhcp {
        dns_servers: vec![ip("9.9.9.9"), ip("1.1.1.1")],
        routes: vec![Route {
            destination: ip("10.9.0.0"),
            prefix: 16,
            via: ip(&format!("10.77.{number}.9")),
        }],
        ..Dhcp::default()
    };
    let v6_options = Dhcp {
        dns_servers: vec![ip("2620:fe::fe")],
        ..Dhcp::default()
    };
    let uuid = Uuid::from_u128(0x0d00_0000_0000_4000_8000_0000_0000_0000 | u128::from(number));
    NetworkSpec {
        uuid,
        name: format!("virga-d{number:07x}"),
        owner: Owner {
            namespace: "shop".to_owned(),
            name: format!("front-{number}"),
            uid: uuid,
            generation: 1,
        },
        bridge: format!("vbrd{number:07x}"),
        mode: ForwardMode::Nat,
        mtu: Some(1400),
        domain: Some("front.shop".to_owned()),
        subnets: vec![
            SubnetSpec {
                address: ip(&format!("10.77.{number}.1")),
                prefix: 24,
                dhcp: Some(if options { v4_options } else { Dhcp::default() }),
            },
            SubnetSpec {
                address: ip(&format!("fd00:77:{number}::1")),
                prefix: 64,
                dhcp: Some(if options { v6_options } else { Dhcp::default() }),
            },
        ],
        dns_hosts: Vec::new(),
    }
}

/// Equal up to what libvirt does not keep: the order of entries, and DHCP without anything in it.
fn same(a: &NetworkSpec, b: &NetworkSpec) -> bool {
    network_diff(a, b).is_empty() && a.owner == b.owner
}

fn with_hosts(mut spec: NetworkSpec, v4: Vec<DhcpHost>, v6: Vec<DhcpHost>, dns_hosts: Vec<DnsHost>) -> NetworkSpec {
    for (subnet, hosts) in spec.subnets.iter_mut().zip([v4, v6]) {
        subnet.dhcp.as_mut().expect("DHCP is on").hosts = hosts;
    }
    spec.dns_hosts = dns_hosts;
    spec
}

fn a_network_lives_and_every_step_can_be_repeated(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let spec = network(setting, 1);
    for _ in 0..2 {
        hypervisor.define_network(&spec).expect("defining");
    }
    let info = hypervisor.network(spec.uuid).expect("reading");
    assert!(same(&info.spec, &spec), "{:?}", info.spec);
    assert_eq!((&info.live, info.connections), (&None, 0));
    for _ in 0..2 {
        hypervisor.start_network(spec.uuid).expect("starting");
    }
    let info = hypervisor.network(spec.uuid).expect("reading");
    assert!(same(&info.spec, &spec), "{:?}", info.spec);
    assert!(
        info.live.as_ref().is_some_and(|live| same(live, &spec)),
        "{:?}",
        info.live
    );
    assert_eq!(hypervisor.networks().expect("listing"), [info]);
    assert_eq!(
        hypervisor.update_network(&spec).expect("updating to the same"),
        NetworkUpdate::default()
    );
    for _ in 0..2 {
        hypervisor.stop_network(spec.uuid).expect("stopping");
    }
    assert_eq!(hypervisor.network(spec.uuid).expect("reading").live, None);
    hypervisor.start_network(spec.uuid).expect("starting again");
    hypervisor.remove_network(spec.uuid).expect("removing what runs");
    assert_eq!(hypervisor.networks().expect("listing"), []);
}

fn entries_change_one_by_one_while_the_network_runs(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let empty = network(setting, 2);
    let two = with_hosts(
        empty.clone(),
        vec![host(1, "10.77.2.11", Some("web-1")), host(2, "10.77.2.12", None)],
        vec![host(1, "fd00:77:2::11", Some("web-1"))],
        vec![
            dns("10.77.2.11", &["web-1", "web-1.front.shop"]),
            dns("fd00:77:2::11", &["web-1"]),
        ],
    );
    let swapped = with_hosts(
        empty.clone(),
        vec![
            host(1, "10.77.2.12", Some("web-1")),
            host(2, "10.77.2.11", Some("web-2")),
        ],
        vec![host(1, "fd00:77:2::12", Some("web-1"))],
        vec![
            dns("10.77.2.12", &["web-1", "web-1.front.shop"]),
            dns("10.77.2.11", &["web-2"]),
        ],
    );
    hypervisor.define_network(&empty).expect("defining");
    let steps = [
        (&two, 5, true),
        (&two, 0, true),
        (&swapped, 10, true),
        (&two, 10, false),
        (&empty, 5, true),
    ];
    for (spec, changes, runs) in steps {
        if runs {
            hypervisor.start_network(spec.uuid).expect("starting");
        } else {
            hypervisor.stop_network(spec.uuid).expect("stopping");
        }
        let update = hypervisor.update_network(spec).expect("updating");
        assert_eq!((update.redefined, update.restart_needed), (false, false));
        assert_eq!(update.host_changes, changes, "{update:?}");
        let info = hypervisor.network(spec.uuid).expect("reading");
        assert!(same(&info.spec, spec), "{:?}", info.spec);
        assert_eq!(info.live.is_some(), runs);
        if let Some(live) = info.live {
            assert!(same(&live, spec), "{live:?}");
        }
    }
    hypervisor.remove_network(empty.uuid).expect("removing");
}

fn a_change_of_structure_waits_for_a_restart(setting: &Setting<'_>) {
    if !setting.can(Ability::KeepADefinitionBesideWhatRuns) {
        return;
    }
    let hypervisor = setting.hypervisor;
    let before = network(setting, 3);
    hypervisor.define_network(&before).expect("defining");
    hypervisor.start_network(before.uuid).expect("starting");
    let mut after = with_hosts(
        before.clone(),
        vec![host(1, "10.77.3.11", None)],
        Vec::new(),
        Vec::new(),
    );
    after.mtu = Some(1300);
    after.subnets[0].dhcp.as_mut().expect("DHCP is on").dns_servers.clear();
    let update = hypervisor.update_network(&after).expect("updating");
    assert!(update.redefined && update.restart_needed, "{update:?}");
    let info = hypervisor.network(after.uuid).expect("reading");
    assert!(same(&info.spec, &after), "{:?}", info.spec);
    let live = info.live.expect("it runs on");
    assert_eq!(live.mtu, Some(1400));
    assert_eq!(
        live.subnets[0].dhcp.as_ref().expect("DHCP is on").hosts.len(),
        1,
        "entries do not wait"
    );
    let update = hypervisor.update_network(&after).expect("updating again");
    assert!(!update.redefined && update.restart_needed, "{update:?}");
    hypervisor.stop_network(after.uuid).expect("stopping");
    hypervisor.start_network(after.uuid).expect("starting");
    assert_eq!(
        hypervisor.update_network(&after).expect("updating"),
        NetworkUpdate::default()
    );
    hypervisor.remove_network(after.uuid).expect("removing");
}

fn guests_on_a_network_are_counted(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let net = network(setting, 4);
    hypervisor.define_network(&net).expect("defining");
    hypervisor.start_network(net.uuid).expect("starting");
    let mut spec = setting.domain(20);
    spec.interfaces.push(InterfaceSpec {
        mac: MacAddress([0xfa, 0x16, 0x3e, 0, 0, 20]),
        source: InterfaceSource::Network(net.name.clone()),
        mtu: Some(1400),
        alias: None,
        options: InterfaceOptions::default(),
    });
    hypervisor.define(&spec).expect("defining");
    hypervisor.start(spec.uuid).expect("starting");
    if setting.can(Ability::CountNetworkConnections) {
        assert_eq!(hypervisor.network(net.uuid).expect("reading").connections, 1);
        let with_port = with_hosts(net.clone(), vec![host(1, "10.77.4.11", None)], Vec::new(), Vec::new());
        hypervisor.update_network(&with_port).expect("updating");
        assert_eq!(
            hypervisor.network(net.uuid).expect("reading").connections,
            1,
            "an update unplugs nobody"
        );
        assert_eq!(hypervisor.plugged(net.uuid).expect("looking"), 1);
    }
    hypervisor.destroy(spec.uuid).expect("destroying");
    assert_eq!(hypervisor.network(net.uuid).expect("reading").connections, 0);
    assert_eq!(hypervisor.plugged(net.uuid).expect("looking"), 0);
    hypervisor.undefine(spec.uuid).expect("undefining");
    hypervisor.remove_network(net.uuid).expect("removing");
}

fn what_another_network_has_is_refused(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let (first, mut overlapping, mut namesake, mut same_bridge) = (
        network(setting, 5),
        network(setting, 6),
        network(setting, 7),
        network(setting, 8),
    );
    hypervisor.define_network(&first).expect("defining");
    hypervisor.start_network(first.uuid).expect("starting");
    overlapping.subnets[0].address = ip("10.77.5.129");
    overlapping.subnets[0].prefix = 25;
    overlapping.subnets[0].dhcp = None;
    hypervisor.define_network(&overlapping).expect("defining what overlaps");
    expect_kind(
        hypervisor.start_network(overlapping.uuid),
        Kind::AlreadyExists,
        "starting what overlaps",
    );
    hypervisor.remove_network(overlapping.uuid).expect("removing");
    namesake.name.clone_from(&first.name);
    expect_kind(
        hypervisor.define_network(&namesake),
        Kind::AlreadyExists,
        "a name that is taken",
    );
    if setting.can(Ability::RefuseATakenBridge) {
        same_bridge.bridge.clone_from(&first.bridge);
        expect_kind(
            hypervisor.define_network(&same_bridge),
            Kind::AlreadyExists,
            "a bridge that is taken",
        );
    }
    hypervisor.remove_network(first.uuid).expect("removing");
}

fn what_is_not_there_is_not_found(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let spec = network(setting, 9);
    expect_kind(hypervisor.network(spec.uuid), Kind::NotFound, "reading");
    expect_kind(hypervisor.start_network(spec.uuid), Kind::NotFound, "starting");
    expect_kind(hypervisor.stop_network(spec.uuid), Kind::NotFound, "stopping");
    expect_kind(hypervisor.update_network(&spec), Kind::NotFound, "updating");
    expect_kind(hypervisor.remove_network(spec.uuid), Kind::NotFound, "removing");
}

fn what_can_not_be_right_is_refused(setting: &Setting<'_>) {
    let spec = with_hosts(
        network(setting, 10),
        vec![host(1, "10.78.0.1", None)],
        Vec::new(),
        Vec::new(),
    );
    expect_kind(
        setting.hypervisor.define_network(&spec),
        Kind::Invalid,
        "an address outside the subnet",
    );
    let spec = with_hosts(
        network(setting, 10),
        vec![host(1, "10.77.10.2", Some("a,b"))],
        Vec::new(),
        Vec::new(),
    );
    expect_kind(
        setting.hypervisor.define_network(&spec),
        Kind::Invalid,
        "a name that dnsmasq would read as two fields",
    );
}

fn what_is_foreign_is_left_alone(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let spec = network(setting, 11);
    (setting.add_foreign)(spec.uuid, "theirs-too");
    assert_eq!(hypervisor.networks().expect("listing"), []);
    expect_kind(hypervisor.network(spec.uuid), Kind::Foreign, "reading");
    expect_kind(hypervisor.define_network(&spec), Kind::Foreign, "defining over it");
    expect_kind(hypervisor.start_network(spec.uuid), Kind::Foreign, "starting");
    expect_kind(hypervisor.stop_network(spec.uuid), Kind::Foreign, "stopping");
    expect_kind(hypervisor.update_network(&spec), Kind::Foreign, "updating");
    expect_kind(hypervisor.remove_network(spec.uuid), Kind::Foreign, "removing");
}
