//! A Network that guests of several namespaces are plugged into. OVN's own northd and ovn-trace say what passes.

use std::sync::Arc;

use virga_core::security_group::default_group;
use virga_crds::{Network, Port, SecurityGroup};
use virga_ovsdb::testing::Northd;

use crate::{
    objects::{cloud, network, port, uid},
    server::{client, write},
};

/// `web-1-front` of this namespace, in `front` of `shop`.
fn plug(number: u64, namespace: &str) -> Arc<Port> {
    let mut made = (*port(number, "front", &[&format!("10.0.0.{number}")])).clone();
    made.metadata.name = Some("web-1-front".into());
    made.metadata.namespace = Some(namespace.into());
    made.spec.hostname = "web-1".into();
    made.spec.network_namespace = (namespace != "shop").then(|| "shop".into());
    Arc::new(made)
}

/// The namespace's default group.
fn default_of(number: u64, namespace: &str) -> Arc<SecurityGroup> {
    let mut group = default_group(namespace);
    group.metadata.uid = Some(uid(2 << 32 | number).to_string());
    group.metadata.generation = Some(1);
    Arc::new(group)
}

fn front() -> Arc<Network> {
    network(1, "front", |spec| spec.dns_domain = Some("example.org".into()))
}

#[tokio::test]
async fn ports_of_one_name_in_several_namespaces_are_apart_and_have_groups_of_their_own() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    let (own, theirs, second) = (plug(1, "shop"), plug(2, "blog"), plug(3, "blog"));
    let mut second = (*second).clone();
    second.metadata.name = Some("web-2-front".into());
    second.spec.hostname = "web-2".into();
    let second = Arc::new(second);
    let mut cloud = cloud();
    cloud.reset([&front()], [&own, &theirs, &second], [], [], []);
    cloud.reset_groups(&[default_of(1, "shop"), default_of(2, "blog")], []);
    let plan = write(&client, &cloud.take()).await;
    assert_eq!(plan.problems, []);
    ovn.sync().unwrap();

    let passes = |from: &Port, to: &Port| {
        let packet = format!(
            "inport==\"{}\" && eth.src=={} && eth.dst=={} && ip4.src=={} && ip4.dst=={} && ip.ttl==64 && icmp4.type==8",
            from.metadata.uid.as_ref().unwrap(),
            from.spec.mac,
            to.spec.mac,
            from.spec.addresses[0].ip,
            to.spec.addresses[0].ip,
        );
        let said = ovn.trace_as("new", &packet).unwrap();
        said.contains(&format!("output(\"{}\")", to.metadata.uid.as_ref().unwrap()))
    };
    assert!(
        passes(&theirs, &second),
        "of one namespace, whose default group lets each other in"
    );
    assert!(
        !passes(&theirs, &own) && !passes(&own, &theirs),
        "each namespace has a group of its own"
    );

    let records = || -> Vec<(String, String)> {
        client.read(|replica| {
            let mut rows = replica.rows("DNS");
            let records = rows.next().map(|row| {
                row.get::<std::collections::BTreeMap<String, String>>("records")
                    .unwrap()
            });
            records.unwrap_or_default().into_iter().collect()
        })
    };
    let said: Vec<String> = records().iter().map(|(name, ip)| format!("{name} {ip}")).collect();
    assert_eq!(
        said,
        [
            "1.0.0.10.in-addr.arpa web-1.example.org",
            "2.0.0.10.in-addr.arpa web-1.blog.example.org",
            "3.0.0.10.in-addr.arpa web-2.blog.example.org",
            "web-1 10.0.0.1",
            "web-1.blog 10.0.0.2",
            "web-1.blog.example.org 10.0.0.2",
            "web-1.example.org 10.0.0.1",
            "web-2.blog 10.0.0.3",
            "web-2.blog.example.org 10.0.0.3",
        ]
    );
    assert_eq!(cloud.port_name(uid(1), uid(1 << 32 | 2)), Some(("blog", "web-1-front")));

    // One goes, and the other of its name stays.
    cloud.remove_port(&theirs);
    let plan = write(&client, &cloud.take()).await;
    assert_eq!((plan.problems, plan.removed), (Vec::new(), 1));
    assert_eq!(records().len(), 6);
    // Its name comes again, in a Network of its own namespace: it is there, and not here.
    cloud.set_port(&theirs);
    write(&client, &cloud.take()).await;
    let mut moved = (*theirs).clone();
    moved.metadata.uid = Some(uid(1 << 32 | 9).to_string());
    moved.spec.network_namespace = None;
    cloud.set_port(&Arc::new(moved));
    write(&client, &cloud.take()).await;
    assert_eq!(records().len(), 6);
    cloud.touch_everything();
    assert!(write(&client, &cloud.take()).await.is_empty(), "as after a restart");
}
