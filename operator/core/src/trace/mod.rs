//! What becomes of a packet, by what the objects of a namespace say? No back end is asked: whoever may read the objects
//! may know, and learns nothing of other namespaces. `operator/ovn/tests/ovn/traced.rs` has OVN's own ovn-trace agree.

mod balancing;
mod ends;
mod rules;
mod walk;
mod world;

use std::{fmt, net::IpAddr};

use serde::Serialize;
use virga_crds::MemberState;
pub use world::{Objects, World};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who sends: an Instance, a Port, or an address; `instance/NAME` and `port/NAME` say which.
    pub from: String,
    /// Who it is sent to, likewise, or a LoadBalancer, as `loadbalancer/NAME`.
    pub to: String,
    /// What is sent.
    pub protocol: Protocol,
    /// The port that is spoken to; of ICMP there is none.
    pub port: Option<u16>,
    /// Of which family; IPv4 when both are possible.
    pub family: Option<Family>,
}

/// What is sent: the first packet of a connection, or a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// An echo request of ICMP, or of ICMPv6.
    Icmp,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Why nobody can say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// There is no such thing.
    #[error("{0}: there is no such Instance, Port, LoadBalancer or address in namespace {1}")]
    Unknown(String, String),
    /// It is not plugged in anywhere.
    #[error("Instance {0} has no Port yet: see its condition NetworkReady")]
    NoPort(String),
    /// Several have the address.
    #[error("{0} is an address of Ports {1}: name one of them, as port/NAME")]
    Several(IpAddr, String),
    /// Both ends have no family in common.
    #[error("{0} and {1} have no addresses of one family{2}")]
    NoFamily(String, String, &'static str),
    /// A LoadBalancer's address only takes connections.
    #[error("{0} is LoadBalancer {1}'s, which sends nothing by itself: name who asks it")]
    Balanced(IpAddr, String),
    /// A packet between two that are outside is nobody's here.
    #[error("neither {0} nor {1} is in namespace {2}: name an Instance, a Port or a floating address of it")]
    Elsewhere(String, String, String),
    /// The Network of a Port is not there, or says what can't be.
    #[error("Network {0} of Port {1} can't be read, or is invalid: see its condition Ready")]
    NoNetwork(String, String),
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Who sends.
    pub from: String,
    /// Where to.
    pub to: String,
    /// What is sent.
    pub packet: Packet,
    /// What happens on the way, in order.
    pub steps: Vec<Step>,
    /// Where a LoadBalancer may send it from there: each member.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Branch>,
    /// What comes of it all: with members it passes when it does to each.
    pub verdict: Verdict,
    /// Where it ends: the Port, by name; none: outside, nowhere, or at one of several members.
    pub arrives_at: Option<String>,
    /// What would let it pass.
    pub cure: Option<String>,
    /// What the objects don't say, or what is wrong beside.
    pub notes: Vec<String>,
}

/// The way to one of a LoadBalancer's members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Branch {
    /// The member's address.
    pub address: IpAddr,
    /// Its Instance, when that is how it was chosen.
    pub instance: Option<String>,
    /// How it is.
    pub state: MemberState,
    /// What happens on the way, in order.
    pub steps: Vec<Step>,
    /// What comes of it.
    pub verdict: Verdict,
    /// Where it ends: the Port, by name.
    pub arrives_at: Option<String>,
    /// What would let it pass.
    pub cure: Option<String>,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Packet {
    /// The protocol.
    pub protocol: Protocol,
    /// The port that is spoken to.
    pub port: Option<u16>,
    /// Who sends it.
    pub source: IpAddr,
    /// Whom it is for.
    pub destination: IpAddr,
}

impl Packet {
    /// The protocol's number in the header.
    pub(crate) fn number(&self) -> u8 {
        match (self.protocol, self.destination) {
            (Protocol::Tcp, _) => 6,
            (Protocol::Udp, _) => 17,
            (Protocol::Sctp, _) => 132,
            (Protocol::Icmp, IpAddr::V4(_)) => 1,
            (Protocol::Icmp, IpAddr::V6(_)) => 58,
        }
    }

    /// As rules call the protocol.
    pub(crate) fn name(&self) -> &'static str {
        match self.number() {
            6 => "tcp",
            17 => "udp",
            132 => "sctp",
            1 => "icmp",
            _ => "ipv6-icmp",
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}/{port}", self.name()),
            None => f.write_str(self.name()),
        }
    }
}

/// What happens at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The kind of the object.
    pub kind: &'static str,
    /// The object, with its namespace where that is another one.
    pub name: String,
    /// What it does to the packet.
    pub does: Does,
    /// The same in words.
    pub says: String,
}

/// What an object does to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Does {
    /// It goes on.
    Passes,
    /// It goes on with another address.
    Translates,
    /// It ends.
    Drops,
}

/// What comes of it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// It arrives, and answers come back.
    Passes,
    /// It does not arrive, or no answer does.
    Drops,
}

/// Answers.
///
/// # Errors
/// When it is not clear what is asked, or about whom.
pub fn trace(world: &World<'_>, question: &Question) -> Result<Trace, Unclear> {
    let ends = ends::of(world, question)?;
    Ok(walk::walk(world, ends, question))
}

#[cfg(test)]
mod tests;
