//! Ports that users make: which rows they have, whoever has them, and what DHCP tells a guest of its own. OVN's own northd and
//! ovn-trace read it.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;
use virga_crds::{Allocation, DhcpOption, FloatingIP, Instance, InstanceSpec, Port};
use virga_ovsdb::{client::Client, testing::Northd};

use crate::{
    objects::{cloud, network, port, uid},
    server::{client, write},
};

/// The Port `kept`, with an Instance or without.
fn kept(instance: &str, options: &serde_json::Value) -> Arc<Port> {
    let mut made = (*port(1, "front", &["10.0.0.5"])).clone();
    made.metadata.name = Some("kept".into());
    made.spec.allocation = Some(Allocation::Given);
    made.spec.instance = instance.into();
    made.spec.hostname = instance.into();
    made.spec.instance_uid = (!instance.is_empty()).then(|| format!("uid of {instance}"));
    made.spec.dhcp_options = serde_json::from_value::<Vec<DhcpOption>>(options.clone()).unwrap();
    Arc::new(made)
}

/// The options that a Port's row refers to, and how many such rows there are.
fn told(client: &Client, port: &Port) -> (BTreeMap<String, String>, usize) {
    client.read(|replica| {
        let mut rows = replica.rows("Logical_Switch_Port");
        let row = rows.find(|row| row.name() == port.metadata.uid.as_deref()).unwrap();
        let of = row.value("dhcpv4_options").unwrap().to_json().to_string();
        let found = replica
            .rows("DHCP_Options")
            .find(|row| of.contains(&row.uuid().to_string()));
        let options = found.unwrap().get::<BTreeMap<String, String>>("options").unwrap();
        (options, replica.rows("DHCP_Options").count())
    })
}

#[tokio::test]
async fn options_of_its_own_are_told_to_this_guest_alone_and_ovn_reads_each_of_them() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    let all = json!([
        {"name": "BootfileName", "value": "pxelinux.0"},
        {"name": "ClasslessStaticRoute", "value": "192.0.2.0/24,10.0.0.2,0.0.0.0/0,10.0.0.1"},
        {"name": "DNSServer", "value": "10.0.0.3,10.0.0.4"},
        {"name": "DomainName", "value": "front.example"},
        {"name": "DomainSearchList", "value": "a.example, b.example"},
        {"name": "LeaseTime", "value": "3600"},
        {"name": "LogServer", "value": "10.0.0.6"},
        {"name": "MTU", "value": "1300"},
        {"name": "NextServer", "value": "10.0.0.7"},
        {"name": "NTPServer", "value": "10.0.0.8"},
        {"name": "PathPrefix", "value": "/srv/tftp/"},
        {"name": "Router", "value": "10.0.0.2"},
        {"name": "TFTPServer", "value": "tftp.example"},
        {"name": "TFTPServerAddress", "value": "10.0.0.9"},
        {"name": "WPAD", "value": "http://10.0.0.1/wpad.dat"},
    ]);
    let (mine, other) = (kept("web-1", &all), port(2, "front", &["10.0.0.6"]));
    let mut cloud = cloud();
    cloud.reset([&network(1, "front", |_| {})], [&mine, &other], [], [], []);
    let plan = write(&client, &cloud.take()).await;
    assert_eq!(plan.problems, []);
    let (own, rows) = told(&client, &mine);
    let (subnets, _) = told(&client, &other);
    assert_eq!(rows, 2);
    assert_eq!((own["mtu"].as_str(), subnets["mtu"].as_str()), ("1300", "1442"));
    assert_eq!(
        (own["router"].as_str(), subnets["router"].as_str()),
        ("10.0.0.2", "10.0.0.1")
    );
    assert_eq!(own["server_mac"], subnets["server_mac"]);
    assert_eq!(own["bootfile_name"], "\"pxelinux.0\"");

    // northd makes a flow of them, and ovn-trace reads that as ovn-controller does.
    ovn.sync().unwrap();
    let asks = |port: &Port| {
        let packet = format!(
            "inport==\"{}\" && eth.src=={} && eth.dst==ff:ff:ff:ff:ff:ff && ip4.src==0.0.0.0 && ip4.dst==255.255.255.255 && \
             ip.ttl==64 && udp.src==68 && udp.dst==67",
            port.metadata.uid.as_ref().unwrap(),
            port.spec.mac,
        );
        ovn.trace(&packet).unwrap()
    };
    let said = asks(&mine);
    assert!(!said.contains("parsing actions failed"), "{said}");
    let flows = ovn.sbctl(&["lflow-list"]).unwrap();
    let flow = flows
        .lines()
        .find(|flow| flow.contains("put_dhcp_opts(offerip = 10.0.0.5"));
    let flow = flow.unwrap_or_else(|| panic!("{flows}"));
    for option in own.keys().filter(|name| *name != "server_mac") {
        assert!(flow.contains(&format!("{option} = ")), "{option}: {flow}");
    }
    assert!(
        said.contains("put_dhcp_opts(offerip = 10.0.0.5") || said.contains("reg0[3]"),
        "{said}"
    );
    assert!(!asks(&other).contains("pxelinux"));

    // Changed live, and gone with the wish.
    cloud.set_port(&kept("web-1", &json!([{"name": "MTU", "value": "1200"}])));
    let plan = write(&client, &cloud.take()).await;
    assert_eq!((plan.inserted, plan.updated, plan.removed), (0, 1, 0));
    assert_eq!(told(&client, &mine).0["mtu"], "1200");
    cloud.set_port(&kept("web-1", &json!([])));
    let plan = write(&client, &cloud.take()).await;
    assert_eq!((plan.inserted, plan.removed), (0, 1));
    assert_eq!(told(&client, &mine), (subnets, 1));
    cloud.touch_everything();
    assert!(write(&client, &cloud.take()).await.is_empty(), "as after a restart");
}

#[tokio::test]
async fn a_port_keeps_its_row_whoever_has_it_and_one_without_addresses_has_none() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    let mut cloud = cloud();
    let none = json!([]);
    let mut asks = (*kept("", &none)).clone();
    asks.spec.allocation = None;
    cloud.reset([&network(1, "front", |_| {})], [&Arc::new(asks)], [], [], []);
    write(&client, &cloud.take()).await;
    let name = uid(1 << 32 | 1).to_string();
    let row = || {
        client.read(|replica| {
            let mut rows = replica.rows("Logical_Switch_Port");
            let row = rows.find(|row| row.name() == Some(&name))?;
            Some((row.uuid(), row.external_id("virga.dev/instance").map(ToOwned::to_owned)))
        })
    };
    assert_eq!(row(), None);
    cloud.set_port(&kept("", &none));
    let plan = write(&client, &cloud.take()).await;
    assert_eq!(plan.problems, []);
    let (first, instance) = row().unwrap();
    assert_eq!(instance, None);
    for who in ["stranger", "", "heir"] {
        cloud.set_port(&kept(who, &none));
        let plan = write(&client, &cloud.take()).await;
        assert_eq!((plan.inserted + plan.removed > 1, plan.problems.len()), (false, 0));
        let expected = (!who.is_empty()).then(|| format!("shop/{who}"));
        assert_eq!(row().unwrap(), (first, expected));
    }
    ovn.sync().unwrap();
}

#[test]
fn a_floating_ip_follows_the_instance_that_has_the_port() {
    let interfaces = json!([{"network": "front", "port": "kept"}]);
    let instance = |name: &str| {
        let spec = InstanceSpec {
            interfaces: serde_json::from_value(interfaces.clone()).unwrap(),
            ..InstanceSpec::default()
        };
        let mut made = Instance::new(name, spec);
        made.metadata.namespace = Some("shop".into());
        Arc::new(made)
    };
    let spec = json!({"network": {"name": "public"}, "instance": "heir"});
    let mut floating = FloatingIP::new("web", serde_json::from_value(spec).unwrap());
    floating.metadata.namespace = Some("shop".into());
    floating.metadata.uid = Some(uid(30).to_string());
    let floating = Arc::new(floating);
    let outside = crate::routed::outside(3);
    let record = crate::floating::record(&floating, "10.200.0.20");
    let none = json!([]);
    let mut cloud = cloud();
    let edge = crate::routed::router(10, "edge", &["front"], |_| {});
    let address = crate::routed::address(&edge, "10.200.0.10");
    cloud.reset(
        [&network(1, "front", |_| {}), &outside],
        [&kept("stranger", &none), &address, &record],
        [&edge],
        [&floating],
        [&instance("stranger"), &instance("heir")],
    );
    let seen = |wanted: &virga_ovn::Wanted| {
        let (_, seen) = &wanted.floating_ips[&uid(30)];
        (
            seen.port.clone(),
            seen.problem.as_ref().map(|problem| problem.reason.as_str()),
        )
    };
    assert_eq!(seen(&cloud.take()), (None, Some("PortNotFound")), "another one has it");
    cloud.set_port(&kept("", &none));
    cloud.set_port(&kept("heir", &none));
    assert_eq!(seen(&cloud.take()), (Some("kept".into()), None));
    cloud.set_port(&kept("", &none));
    assert_eq!(seen(&cloud.take()), (None, Some("PortNotFound")), "let go of");
}
