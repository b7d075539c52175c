//! The specification of a libvirt network, in our own words.

use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use super::mac::MacAddress;
use crate::owner::Owner;

/// How long a DHCP lease lasts: dnsmasq's minimum. dnsmasq gives an address to nobody else, and answers for the name of
/// its holder, until the lease ends, even after the entry was deleted; so an address should rest this long before it is
/// given to another port.
pub const DHCP_LEASE: Duration = Duration::from_mins(2);

/// Where a network leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForwardMode {
    /// Out through the host, behind the host's address.
    Nat,
    /// Nowhere.
    Isolated,
}

/// A route told to guests by DHCP (RFC 3442).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// The network that it leads to.
    pub destination: IpAddr,
    /// That network's prefix length, in bits.
    pub prefix: u8,
    /// The router.
    pub via: IpAddr,
}

/// An address kept for one interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DhcpHost {
    /// The interface.
    pub mac: MacAddress,
    /// Its address.
    pub address: IpAddr,
    /// The host name that it is told. What the client calls itself counts for nothing.
    pub name: Option<String>,
}

/// DHCP on a subnet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Dhcp {
    /// Addresses for anyone who asks, first to last. Empty: only `hosts` get an address.
    pub ranges: Vec<(IpAddr, IpAddr)>,
    /// Addresses kept for known interfaces.
    pub hosts: Vec<DhcpHost>,
    /// The name servers that guests are told; empty: the network's own, which knows its instances.
    pub dns_servers: Vec<IpAddr>,
    /// Routes that guests are told besides the default one.
    pub routes: Vec<Route>,
}

/// A subnet of a libvirt network. One IPv4 and one IPv6 subnet of a network can have DHCP (libvirt's limit).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubnetSpec {
    /// The host's address on the bridge: the guests' gateway, name server and DHCP server.
    pub address: IpAddr,
    /// The subnet's prefix length, in bits.
    pub prefix: u8,
    /// DHCP, if it is on.
    pub dhcp: Option<Dhcp>,
}

/// A name that the network's name server answers for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsHost {
    /// The address.
    pub address: IpAddr,
    /// Its names.
    pub names: Vec<String>,
}

/// What a libvirt network should be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetworkSpec {
    /// The UUID: the Network's UID.
    pub uuid: Uuid,
    /// The name, unique on the host.
    pub name: String,
    /// Whose it is; kept in the metadata.
    pub owner: Owner,
    /// The bridge; at most 15 bytes (IFNAMSIZ).
    pub bridge: String,
    /// Where it leads.
    pub mode: ForwardMode,
    /// The MTU of the bridge and the guests' interfaces, in bytes.
    pub mtu: Option<u32>,
    /// The DNS domain, which is answered here and never asked for elsewhere.
    pub domain: Option<String>,
    /// The subnets.
    pub subnets: Vec<SubnetSpec>,
    /// Names that the name server answers for; one entry an address.
    pub dns_hosts: Vec<DnsHost>,
}

/// A libvirt network of ours, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInfo {
    /// What its definition says.
    pub spec: NetworkSpec,
    /// What runs; `None` when it is not active. Differs from `spec` when a change waits for a restart.
    pub live: Option<NetworkSpec>,
    /// How many guests' interfaces are plugged into it.
    pub connections: u32,
}

/// What [`Hypervisor::update_network`](crate::Hypervisor::update_network) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetworkUpdate {
    /// How many DHCP and DNS entries were added, modified or deleted, in the definition and live; 0: nothing was
    /// written for them.
    pub host_changes: usize,
    /// Whether more than entries differed, so that the definition was written anew.
    pub redefined: bool,
    /// Whether what runs still differs from the definition: it needs a stop and a start, which unplugs guests.
    pub restart_needed: bool,
}
