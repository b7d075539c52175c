//! Which LoadBalancers are there, what do they listen to, and who answers?

use kube::ResourceExt as _;
use serde::Serialize;
use virga_crds::{ForwardedProtocol, LoadBalancer, MemberState};

use super::problem;

/// A load balancer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BalancerDrawn {
    /// Its name.
    pub name: String,
    /// The Network of its address.
    pub network: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// The addresses outside that lead to it.
    #[serde(rename = "floatingIPs")]
    pub floating_ips: Vec<String>,
    /// What it listens to.
    pub listeners: Vec<ListenerDrawn>,
    /// How many members are sent connections.
    pub online: i32,
    /// Who answers.
    pub members: Vec<MemberDrawn>,
    /// Why it is not ready.
    pub problem: Option<String>,
}

/// A port that it listens to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerDrawn {
    /// The protocol.
    pub protocol: ForwardedProtocol,
    /// The port that clients ask.
    pub port: u16,
    /// The members' port.
    pub member_port: u16,
}

/// Somebody who answers.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberDrawn {
    /// Its address.
    pub address: String,
    /// The Instance, when that is how it was chosen.
    pub instance: Option<String>,
    /// How it is.
    pub state: MemberState,
}

/// What one is, with the addresses outside that lead to it.
pub(super) fn balanced(balancer: &LoadBalancer, floating_ips: Vec<String>) -> BalancerDrawn {
    let spec = &balancer.spec;
    let status = balancer.status.clone().unwrap_or_default();
    let listeners = spec.listeners.iter().map(|listener| ListenerDrawn {
        protocol: listener.protocol,
        port: listener.port,
        member_port: listener.member_port.unwrap_or(listener.port),
    });
    let members = status.members.into_iter().map(|member| MemberDrawn {
        address: member.address,
        instance: member.instance,
        state: member.state,
    });
    BalancerDrawn {
        name: balancer.name_any(),
        network: spec.vip.network.clone(),
        addresses: status.addresses,
        floating_ips,
        listeners: listeners.collect(),
        online: status.online,
        members: members.collect(),
        problem: problem(balancer.status.as_ref().map(|status| status.conditions.as_slice())),
    }
}

impl ListenerDrawn {
    /// `TCP 80`, and the members' port where that is another one.
    pub(super) fn words(&self) -> String {
        let protocol = format!("{:?}", self.protocol).to_uppercase();
        let (port, inner) = (self.port, self.member_port);
        if port == inner {
            format!("{protocol} {port}")
        } else {
            format!("{protocol} {port} to port {inner}")
        }
    }
}
