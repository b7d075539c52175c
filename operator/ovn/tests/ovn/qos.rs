//! What guests may send and be sent. OVN's own northd makes flows of it, and ovn-trace says what is marked.

use std::sync::Arc;

use virga_crds::{BandwidthLimit, Network, Port, PortSecurity, Qos};
use virga_ovsdb::testing::Northd;

use crate::{
    objects::{cloud, network, port, uid},
    server::{client, write},
};

const LIMITED: Qos = Qos {
    egress: Some(BandwidthLimit {
        max_kbps: 10_000,
        burst_kbit: Some(8_000),
    }),
    ingress: Some(BandwidthLimit {
        max_kbps: 20_000,
        burst_kbit: None,
    }),
    dscp_mark: Some(26),
};

fn front(qos: Option<Qos>) -> Arc<Network> {
    network(1, "front", |spec| {
        spec.port_security = PortSecurity::Disabled;
        spec.qos = qos;
    })
}

fn plug(number: u64, qos: Option<Qos>) -> Arc<Port> {
    let mut made = (*port(number, "front", &[&format!("10.0.0.{number}")])).clone();
    made.spec.qos = qos;
    Arc::new(made)
}

#[tokio::test]
async fn a_port_is_limited_and_marked_each_way_as_it_says_or_else_its_network() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    let mut cloud = cloud();
    cloud.reset([&front(None)], [&plug(1, Some(LIMITED)), &plug(2, None)], [], [], []);
    let plan = write(&client, &cloud.take()).await;
    assert_eq!(plan.problems, []);
    let rules = || -> Vec<String> {
        let mut found: Vec<String> = client.read(|replica| {
            let rows = replica.rows("QoS").map(|row| {
                let map = |name: &str| row.get::<std::collections::BTreeMap<String, i64>>(name).unwrap();
                let text = |name: &str| row.get::<String>(name).unwrap();
                format!(
                    "{} {} {:?} {:?}",
                    text("direction"),
                    text("match"),
                    map("action"),
                    map("bandwidth")
                )
            });
            rows.collect()
        });
        found.sort();
        found
    };
    let (first, second) = (uid(1 << 32 | 1), uid(1 << 32 | 2));
    let expected = |port: uuid::Uuid| {
        [
            format!(r#"from-lport inport == "{port}" {{"dscp": 26}} {{"burst": 8000, "rate": 10000}}"#),
            format!(r#"to-lport outport == "{port}" {{}} {{"rate": 20000}}"#),
        ]
    };
    assert_eq!(rules(), expected(first));

    // northd takes it, and what the guest sends is marked.
    let marks = |from: &Port, to: &Port| {
        ovn.sync().unwrap();
        let packet = format!(
            "inport==\"{}\" && eth.src=={} && eth.dst=={} && ip4.src=={} && ip4.dst=={} && ip.ttl==64 && icmp4.type==8",
            from.metadata.uid.as_ref().unwrap(),
            from.spec.mac,
            to.spec.mac,
            from.spec.addresses[0].ip,
            to.spec.addresses[0].ip,
        );
        let said = ovn.trace_as("new", &packet).unwrap();
        assert!(
            said.contains(&format!("output(\"{}\")", to.metadata.uid.as_ref().unwrap())),
            "{said}"
        );
        said.contains("ip.dscp = 26")
    };
    let (one, two) = (plug(1, None), plug(2, None));
    assert!(marks(&one, &two) && !marks(&two, &one));

    // Of the Network, the other Port has it too, and the first has its own still.
    let of_network = Qos {
        dscp_mark: Some(10),
        ..Qos::default()
    };
    cloud.set_network(&front(Some(of_network)));
    let plan = write(&client, &cloud.take()).await;
    assert_eq!((plan.inserted, plan.removed), (1, 0));
    assert!(rules().contains(&format!(r#"from-lport inport == "{second}" {{"dscp": 10}} {{}}"#)));
    assert!(expected(first).iter().all(|rule| rules().contains(rule)));

    // A Port that wants none has none, live.
    cloud.set_port(&plug(2, Some(Qos::default())));
    let plan = write(&client, &cloud.take()).await;
    assert_eq!((plan.inserted, plan.removed), (0, 1));
    assert_eq!(rules(), expected(first));
    cloud.touch_everything();
    assert!(write(&client, &cloud.take()).await.is_empty(), "as after a restart");

    // And it goes with its Port.
    cloud.remove_port(&plug(1, None));
    write(&client, &cloud.take()).await;
    assert_eq!(rules(), [""; 0]);
    ovn.sync().unwrap();
}
