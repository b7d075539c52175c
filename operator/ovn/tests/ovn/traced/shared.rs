//! A LoadBalancer in a random world: its members are among the guests, wherever these are.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use serde_json::json;
use virga_core::{
    load_balancer,
    network::{Allocated, Purpose},
};
use virga_crds::{LoadBalancer, Port};
use virga_ovsdb::{client::Client, northbound};

use crate::{objects::uid, routed::rows};

/// Its uid's number.
pub const NUMBER: u64 = 30;
/// The address outside that leads to it.
pub const LED: &str = "10.200.0.52";

/// Its address, by the number of its Network.
pub fn vip(network: usize, v6: bool) -> String {
    if v6 {
        format!("fd00:{}::100", network + 1)
    } else {
        format!("10.{network}.0.100")
    }
}

/// One that has members with these addresses.
pub fn balancer(network: &str, members: &[String]) -> Arc<LoadBalancer> {
    let spec = json!({
        "vip": {"network": network},
        "listeners": [
            {"protocol": "TCP", "port": 80, "memberPort": 22}, {"protocol": "UDP", "port": 53}, {"protocol": "SCTP", "port": 80},
        ],
        "members": {"addresses": members},
    });
    let mut balancer = LoadBalancer::new("pages", serde_json::from_value(spec).unwrap());
    balancer.metadata.namespace = Some("shop".into());
    balancer.metadata.uid = Some(uid(NUMBER).to_string());
    balancer.metadata.generation = Some(1);
    balancer.metadata.creation_timestamp = Some(Time(Timestamp::from_second(30).unwrap()));
    Arc::new(balancer)
}

/// The record of its addresses.
pub fn held(balancer: &LoadBalancer, network: usize) -> Arc<Port> {
    let needs = load_balancer::needs(balancer);
    let need = needs.iter().find(|need| need.purpose == Purpose::Vip).unwrap();
    let given = [("v4", false), ("v6", true)].map(|(subnet, v6)| Allocated {
        subnet: subnet.into(),
        ip: vip(network, v6).parse().unwrap(),
    });
    let mut port = need.port(&balancer.metadata, mac(), &given);
    port.metadata.uid = Some("vip-port".into());
    Arc::new(port)
}

/// The MAC address that answers for it in its Network.
pub fn mac() -> String {
    virga_core::network::mac_address("pages", 0)
}

/// Those that OVN may send what is for an address and port to, of one protocol.
pub fn backends(client: &Client, protocol: northbound::Protocol, socket: &str) -> BTreeSet<String> {
    let found = rows::<northbound::LoadBalancer>(client)
        .into_iter()
        .filter(|row| row.protocol == Some(protocol))
        .find_map(|row| row.vips.get(socket).cloned());
    let found = found.unwrap_or_default();
    let members = found.split(',').filter(|member| !member.is_empty());
    members.map(str::to_owned).collect()
}
