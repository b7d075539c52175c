//! Which rows are a network? As a story, in snapshots.

use std::{fmt::Write as _, sync::Arc};

use virga_crds::{Dhcp, HostRoute, Network, NetworkType, Port, PortSecurity, conditions::Reason};
use virga_ovn::{Cloud, Wanted};
use virga_ovsdb::{
    client::Client,
    northbound::{DhcpOptions, Dns, LogicalSwitch, LogicalSwitchPort},
    replica::Replica,
    table::Table,
    testing::Server,
};

use crate::{
    objects::{cloud, network, port, subnet, uid},
    server::{client, write},
};

/// What a real server holds after these were written.
async fn held(networks: &[Arc<Network>], ports: &[Arc<Port>]) -> String {
    let server = Server::start().unwrap();
    let client = client(&server).await;
    let mut cloud = cloud();
    cloud.reset(networks, ports, [], [], []);
    let plan = write(&client, &cloud.take()).await;
    assert_eq!(plan.problems, []);
    told(&client)
}

fn told(client: &Client) -> String {
    client.read(|replica| {
        [
            rows::<LogicalSwitch>(replica, &["name", "other_config"]),
            rows::<LogicalSwitchPort>(
                replica,
                &["name", "type", "options", "tag", "addresses", "port_security"],
            ),
            rows::<DhcpOptions>(replica, &["cidr", "options"]),
            rows::<Dns>(replica, &["records"]),
        ]
        .concat()
    })
}

/// The rows of a table in the order of their keys, with some of their columns.
fn rows<T: Table>(replica: &Replica, columns: &[&str]) -> String {
    let mut rows: Vec<String> = replica
        .rows(T::SPEC.name)
        .map(|row| {
            let key = row.external_id("virga.dev/key").unwrap_or("?");
            let mut text = format!(
                "{} {}\n",
                T::SPEC.name,
                key.replace("00000000-0000-0000-0000-0000000000", "…")
            );
            for column in columns {
                let value = row.value(column).unwrap().to_json().to_string();
                if value != r#"["map",[]]"# && value != r#"["set",[]]"# && value != r#""""# {
                    writeln!(text, "  {column} {value}").unwrap();
                }
            }
            text
        })
        .collect();
    rows.sort();
    rows.concat()
}

#[tokio::test]
async fn an_overlay_with_both_families_is_told_by_dhcp_and_dns() {
    let front = network(1, "front", |spec| {
        spec.dns_domain = Some("front.shop".into());
        spec.subnets[0].dns_servers = vec!["9.9.9.9".into(), "10.0.0.1".into()];
        spec.subnets[0].host_routes = vec![HostRoute {
            destination: "192.0.2.0/24".into(),
            next_hop: "10.0.0.9".into(),
        }];
        spec.subnets.push(subnet("v6", "fd00:1::/64"));
    });
    let ports = [
        port(1, "front", &["10.0.0.5", "fd00:1::5"]),
        port(2, "front", &["10.0.0.6"]),
    ];
    insta::assert_snapshot!(held(&[front], &ports).await);
}

#[tokio::test]
async fn a_vlan_has_a_way_out_and_no_gateway_of_ours() {
    let provider = network(2, "provider", |spec| {
        spec.type_ = NetworkType::Vlan;
        spec.physical_network = Some("physnet".into());
        spec.segment_id = Some(42);
        spec.port_security = PortSecurity::Disabled;
    });
    insta::assert_snapshot!(held(&[provider], &[port(3, "provider", &["10.0.0.7"])]).await);
}

#[tokio::test]
async fn without_a_gateway_or_dhcp_nobody_answers() {
    let quiet = network(3, "quiet", |spec| {
        spec.subnets[0].gateway = Some("None".into());
        spec.subnets.push(subnet("static", "10.0.1.0/24"));
        spec.subnets[1].dhcp = Dhcp::Disabled;
        spec.subnets[1].gateway = Some("None".into());
        spec.mtu = 1400;
    });
    insta::assert_snapshot!(held(&[quiet], &[port(4, "quiet", &[])]).await);
}

#[test]
fn a_piece_of_a_physical_network_is_the_oldest_networks() {
    let vlan = |number, name: &str, tag| {
        network(number, name, |spec| {
            spec.type_ = NetworkType::Vlan;
            spec.physical_network = Some("physnet".into());
            spec.segment_id = Some(tag);
        })
    };
    let (old, young, other) = (vlan(1, "old", 7), vlan(2, "young", 7), vlan(3, "other", 8));
    let mut cloud = cloud();
    cloud.reset([&young, &other], [], [], [], []);
    assert!(cloud.take().refused.is_empty());
    // The older one shows later.
    cloud.set_network(&old);
    let Wanted { refused, networks, .. } = cloud.take();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[&uid(2)].reason, Reason::SegmentTaken);
    let message =
        "physical network physnet, VLAN 7, is Network shop/old's: take another segmentID, or share that Network";
    assert_eq!(refused[&uid(2)].message, message);
    assert_eq!(networks.keys().copied().collect::<Vec<_>>(), [uid(1), uid(2)]);
    cloud.remove_network(&old);
    assert!(cloud.take().refused.is_empty());
}

#[test]
fn only_what_has_changed_is_taken() {
    let mut cloud = cloud();
    let networks = [network(1, "a", |_| {}), network(2, "b", |_| {})];
    cloud.reset(&networks, [], [], [], []);
    assert_eq!(cloud.take().networks.len(), 2);
    assert!(!cloud.is_dirty());

    let mut seen = (*networks[0]).clone();
    seen.status = Some(virga_crds::NetworkStatus::default());
    cloud.set_network(&Arc::new(seen));
    assert!(!cloud.is_dirty(), "a status is no change");

    let first = port(1, "b", &["10.0.0.5"]);
    cloud.set_port(&first);
    let mut moved = (*first).clone();
    assert_eq!(cloud.take().networks.keys().copied().collect::<Vec<_>>(), [uid(2)]);
    moved.spec.node_name = Some("node-2".into());
    cloud.set_port(&Arc::new(moved));
    assert!(!cloud.is_dirty(), "where a port is plugged in is no change of its row");

    // Gone, and another one by its name.
    cloud.remove_network(&networks[1]);
    cloud.set_network(&network(9, "b", |_| {}));
    let taken = cloud.take();
    assert_eq!(taken.networks[&uid(2)], None);
    assert_eq!(taken.networks[&uid(9)], Some(1));
    cloud.remove_port(&first);
    assert_eq!(cloud.take().networks.keys().copied().collect::<Vec<_>>(), [uid(9)]);
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let mut cloud: Cloud = cloud();
    cloud.set_network(&network(1, "big", |spec| spec.mtu = 9000));
    let refused = cloud.take().refused;
    assert_eq!(refused[&uid(1)].reason, Reason::Invalid);
    assert!(refused[&uid(1)].message.contains("spec.mtu: 9000"), "{refused:?}");
}
