//! libvirt's own networks: a bridge, dnsmasq and NAT on one host.
//!
//! Names follow from the Network's UID, so that nothing has to be remembered: the libvirt network has the UID as its
//! UUID and is called `virga-` and the UID's first eight digits, its bridge `vbr` and the same digits (11 bytes; Linux
//! allows 15).
//!
//! Only known ports get an address: each is a static DHCP entry, and there is no open range. IPv6 clients are known by
//! their MAC address too, whatever they make their DUID of.

use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;
use virga_hypervisor::{
    Calls, Dhcp, DhcpHost, DnsHost, Error as HypervisorError, ForwardMode, Hypervisor, InterfaceSource, NetworkInfo,
    NetworkSpec, Owner, Route, SubnetSpec,
};

use crate::backend::{Attachment, BoxFuture, HeldNetwork, NetworkBackend, Plug};
use crate::error::{Error, Result};
use crate::node_network::{Mode, NodeNetwork, NodeSubnet};

const NAME: &str = "libvirt";

/// Networks of libvirt on this host.
#[derive(Debug, Clone)]
pub struct LibvirtNetworks {
    calls: Calls,
    deadline: Duration,
}

impl LibvirtNetworks {
    /// Over the hypervisor behind `calls`; each call is given `deadline`. A start takes under a second when the host
    /// is idle: dnsmasq and the firewall's rules.
    pub fn new(calls: Calls, deadline: Duration) -> Self {
        LibvirtNetworks { calls, deadline }
    }
}

impl NetworkBackend for LibvirtNetworks {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ensure<'a>(&'a self, network: &'a NodeNetwork) -> BoxFuture<'a, Result<Attachment>> {
        Box::pin(async move {
            let spec = spec_of(network)?;
            let result = self
                .calls
                .network(network.uid, self.deadline, move |h| ensure(h, &spec))
                .await;
            result.map_err(|error| explain(network, error))
        })
    }

    fn plug(&self, network: Uuid, port: Uuid) -> Plug {
        Plug {
            source: InterfaceSource::Network(network_name(network)),
            alias: format!("ua-{port}"),
        }
    }

    fn remove(&self, network: Uuid) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let held = match self
                .calls
                .network(network, self.deadline, move |h| remove(h, network))
                .await
            {
                Err(HypervisorError::NotFound { .. }) => return Ok(()),
                result => result?,
            };
            match held {
                None => Ok(()),
                Some(held) => Err(Error::InUse {
                    network: format!("{}/{}", held.namespace, held.name),
                    connections: held.connections,
                }),
            }
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<HeldNetwork>>> {
        Box::pin(async move {
            let infos = self.calls.host(self.deadline, Hypervisor::networks).await?;
            Ok(infos
                .into_iter()
                .map(|info| HeldNetwork {
                    uid: info.spec.uuid,
                    namespace: info.spec.owner.namespace,
                    name: info.spec.owner.name,
                    active: info.live.is_some(),
                    connections: info.connections,
                })
                .collect())
        })
    }
}

fn digits(network: Uuid) -> String {
    let mut digits = network.simple().to_string();
    digits.truncate(8);
    digits
}

fn network_name(network: Uuid) -> String {
    format!("virga-{}", digits(network))
}

fn ensure(hypervisor: &dyn Hypervisor, spec: &NetworkSpec) -> virga_hypervisor::Result<Attachment> {
    let mut attachment = Attachment {
        bridge: spec.bridge.clone(),
        mtu: spec.mtu,
        changed: false,
        restart_pending: false,
    };
    let found = match hypervisor.network(spec.uuid) {
        Ok(info) => Some(info),
        Err(HypervisorError::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    let Some(info) = found else {
        hypervisor.define_network(spec)?;
        attachment.changed = true;
        if let Err(error) = hypervisor.start_network(spec.uuid) {
            // What can't be started is not left behind. If this fails too, the next call finds the definition.
            let _ = hypervisor.remove_network(spec.uuid);
            return Err(error);
        }
        return Ok(attachment);
    };
    let update = hypervisor.update_network(spec)?;
    attachment.changed = update.host_changes > 0 || update.redefined;
    let restarted = update.restart_needed && plugged(hypervisor, &info)? == 0;
    if restarted {
        hypervisor.stop_network(spec.uuid)?;
        attachment.changed = true;
    } else {
        attachment.restart_pending = update.restart_needed;
    }
    if info.live.is_none() || restarted {
        hypervisor.start_network(spec.uuid)?;
        attachment.changed = true;
    }
    Ok(attachment)
}

/// How many interfaces of running guests are plugged in. They are asked only where libvirt says that there are any.
fn plugged(hypervisor: &dyn Hypervisor, info: &NetworkInfo) -> virga_hypervisor::Result<u32> {
    match info.connections {
        0 => Ok(0),
        _ => hypervisor.plugged(info.spec.uuid),
    }
}

/// Removes the network, or says who uses it.
fn remove(hypervisor: &dyn Hypervisor, network: Uuid) -> virga_hypervisor::Result<Option<HeldNetwork>> {
    let info = hypervisor.network(network)?;
    let connections = plugged(hypervisor, &info)?;
    if connections > 0 {
        return Ok(Some(HeldNetwork {
            uid: network,
            namespace: info.spec.owner.namespace,
            name: info.spec.owner.name,
            active: true,
            connections,
        }));
    }
    hypervisor.remove_network(network).map(|()| None)
}

fn explain(network: &NodeNetwork, error: HypervisorError) -> Error {
    let name = network.display_name();
    match error {
        HypervisorError::AlreadyExists { message, .. } => Error::Conflict {
            network: name,
            message,
            cure: "choose another address range, or remove what has it from this node (libvirt networks of one host \
                   share its routing table)"
                .to_owned(),
        },
        HypervisorError::Invalid { message, .. } => Error::Invalid { network: name, message },
        error => Error::Hypervisor(error),
    }
}

/// The libvirt network for a node's network. Pure.
fn spec_of(network: &NodeNetwork) -> Result<NetworkSpec> {
    network.validate().map_err(|message| Error::Invalid {
        network: network.display_name(),
        message,
    })?;
    let unsupported = |message: String, cure: &str| Error::Unsupported {
        network: network.display_name(),
        backend: NAME,
        message,
        cure: cure.to_owned(),
    };
    for v4 in [true, false] {
        let with_dhcp = network
            .subnets
            .iter()
            .filter(|s| s.dhcp && s.cidr.network().is_ipv4() == v4)
            .count();
        if with_dhcp > 1 {
            return Err(unsupported(
                format!("{with_dhcp} {} subnets with DHCP", if v4 { "IPv4" } else { "IPv6" }),
                "turn DHCP off for all but one of them",
            ));
        }
    }
    let mut subnets = Vec::new();
    for subnet in &network.subnets {
        match subnet.gateway {
            Some(gateway) => subnets.push(subnet_spec(network, subnet, gateway)),
            None if subnet.dhcp => {
                return Err(unsupported(
                    format!("DHCP in {} without an address for the server", subnet.cidr),
                    "give the subnet a gateway, whose address the server takes, or turn DHCP off",
                ));
            }
            // Guests that know their addresses need nothing from the host but the bridge.
            None => {}
        }
    }
    // libvirt keeps options for the first subnet of a family (see `NetworkSpec::validate`). Stable: no other order moves.
    subnets.sort_by_key(|subnet| subnet.dhcp.is_none());
    let digits = digits(network.uid);
    Ok(NetworkSpec {
        uuid: network.uid,
        name: network_name(network.uid),
        owner: Owner {
            namespace: network.namespace.clone(),
            name: network.name.clone(),
            uid: network.uid,
            generation: network.generation,
        },
        bridge: format!("vbr{digits}"),
        mode: match network.mode {
            Mode::Nat => ForwardMode::Nat,
            Mode::Isolated => ForwardMode::Isolated,
        },
        mtu: network.mtu,
        domain: network.dns_domain.clone(),
        subnets,
        dns_hosts: dns_hosts(network),
    })
}

fn subnet_spec(network: &NodeNetwork, subnet: &NodeSubnet, gateway: IpAddr) -> SubnetSpec {
    let dhcp = subnet.dhcp.then(|| Dhcp {
        ranges: Vec::new(),
        hosts: dhcp_hosts(network, subnet),
        dns_servers: subnet.dns_servers.clone(),
        routes: subnet
            .routes
            .iter()
            .map(|route| Route {
                destination: route.destination.network(),
                prefix: route.destination.prefix_len(),
                via: route.next_hop,
            })
            .collect(),
    });
    SubnetSpec {
        address: gateway,
        prefix: subnet.cidr.prefix_len(),
        dhcp,
    }
}

/// One entry a port. libvirt takes a name once in a subnet: of two ports of one instance only the first has it; the
/// name server knows both.
fn dhcp_hosts(network: &NodeNetwork, subnet: &NodeSubnet) -> Vec<DhcpHost> {
    let mut names = std::collections::HashSet::new();
    let mut hosts: Vec<DhcpHost> = Vec::new();
    for port in &network.ports {
        if let Some(address) = port.addresses.iter().find(|address| subnet.cidr.contains(*address)) {
            let name = names.insert(&port.hostname).then(|| port.hostname.clone());
            hosts.push(DhcpHost {
                mac: port.mac,
                address: *address,
                name,
            });
        }
    }
    hosts.sort();
    hosts
}

/// `web-1` and `web-1.<domain>` for every address.
fn dns_hosts(network: &NodeNetwork) -> Vec<DnsHost> {
    let mut hosts = Vec::new();
    for port in &network.ports {
        let mut names = vec![port.hostname.clone()];
        names.extend(
            network
                .dns_domain
                .as_ref()
                .map(|domain| format!("{}.{domain}", port.hostname)),
        );
        hosts.extend(port.addresses.iter().map(|address| DnsHost {
            address: *address,
            names: names.clone(),
        }));
    }
    hosts.sort();
    hosts
}
