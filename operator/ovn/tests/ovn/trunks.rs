//! Sub-ports of trunks. OVN's own northd binds them to their parents.

use std::sync::Arc;

use virga_crds::{Network, Port, PortSecurity, TrunkParent};
use virga_ovsdb::testing::Northd;

use crate::{
    objects::{cloud, network, port, uid},
    server::{client, write},
};

fn open(number: u64, name: &str) -> Arc<Network> {
    network(number, name, |spec| spec.port_security = PortSecurity::Disabled)
}

/// A guest's second Port, whose frames are among those of its first.
fn sub(number: u64, trunk: Option<u16>) -> Arc<Port> {
    let mut made = (*port(number, "dmz", &[&format!("10.0.0.{number}")])).clone();
    made.spec.trunk = trunk.map(|segment_id| TrunkParent {
        port: "web-1-front".into(),
        uid: uid(1 << 32 | 1).to_string(),
        segment_id,
    });
    Arc::new(made)
}

#[tokio::test]
async fn a_sub_port_is_bound_with_its_parent_by_its_tag_and_is_in_a_network_of_its_own() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    let mut cloud = cloud();
    let (front, dmz) = (open(1, "front"), open(2, "dmz"));
    let (parent, other) = (port(1, "front", &["10.0.0.1"]), port(9, "dmz", &["10.0.0.9"]));
    cloud.reset([&front, &dmz], [&parent, &sub(2, Some(100)), &other], [], [], []);
    let plan = write(&client, &cloud.take()).await;
    assert_eq!(plan.problems, []);
    let bound = |number: u64| {
        ovn.sync().unwrap();
        let port = format!("logical_port={}", uid(1 << 32 | number));
        let said = ovn
            .sbctl(&["--bare", "--columns=parent_port,tag", "find", "Port_Binding", &port])
            .unwrap();
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let of_parent = |tag: u16| format!("{} {tag}", uid(1 << 32 | 1));
    assert_eq!((bound(1), bound(2)), (String::new(), of_parent(100)));

    // It talks to those of its own Network, as itself.
    let mine = sub(2, None);
    let packet = format!(
        "inport==\"{}\" && eth.src=={} && eth.dst=={} && ip4.src==10.0.0.2 && ip4.dst==10.0.0.9 && ip.ttl==64 && icmp4.type==8",
        uid(1 << 32 | 2),
        mine.spec.mac,
        other.spec.mac,
    );
    let said = ovn.trace_as("new", &packet).unwrap();
    assert!(said.contains(&format!("output(\"{}\")", uid(1 << 32 | 9))), "{said}");

    // Another tag, live: one row changes, and nothing is made anew.
    cloud.set_port(&sub(2, Some(200)));
    let plan = write(&client, &cloud.take()).await;
    assert_eq!((plan.inserted, plan.updated, plan.removed), (0, 1, 0));
    assert_eq!(bound(2), of_parent(200));
    cloud.touch_everything();
    assert!(write(&client, &cloud.take()).await.is_empty(), "as after a restart");

    // One that becomes an interface of its own has neither parent nor tag.
    cloud.set_port(&mine);
    write(&client, &cloud.take()).await;
    assert_eq!(bound(2), "");
}
