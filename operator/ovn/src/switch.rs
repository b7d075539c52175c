//! Which rows are a Network with its Ports?

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use kube::ResourceExt as _;
use uuid::Uuid;
use virga_core::network::{Segment, ValidNetwork};
use virga_crds::{Network, Port};
use virga_ovsdb::{
    northbound::{DhcpOptions, LoadBalancer, LogicalSwitch, LogicalSwitchPort},
    reconcile::Desired,
    table::{Keep, Ref},
};

use crate::{
    dhcp,
    key::{self, spaced},
    names::Names,
    qos,
    router::{self, Joint},
    security_group,
};

/// What an operator finds an object by in `ovn-nbctl list`.
const NETWORK: &str = "virga.dev/network";
const PORT: &str = "virga.dev/port";
const INSTANCE: &str = "virga.dev/instance";

/// What is sent to addresses that no port is known to have goes to this port too.
const UNKNOWN: &str = "unknown";

/// What of LoadBalancers is in a switch.
#[derive(Default)]
pub(crate) struct Sharing {
    /// The plugs of their own routers.
    pub plugs: BTreeSet<Ref<LogicalSwitchPort>>,
    /// Those that share out what its guests send.
    pub balancers: BTreeSet<Ref<LoadBalancer>>,
}

/// What is beside the guests in a switch.
pub(crate) struct Beside<'a> {
    /// The Routers' ports, each with its Router's uid and name.
    pub routers: &'a [(Uuid, String, Joint)],
    pub sharing: Sharing,
}

/// Adds the rows of a network with these ports.
pub(crate) fn insert(
    desired: &mut Desired,
    uid: Uuid,
    network: &Network,
    valid: &ValidNetwork,
    mtu: u16,
    ports: &[Arc<Port>],
    beside: Beside<'_>,
) {
    let Beside { routers, sharing } = beside;
    let mut refs = sharing.plugs;
    refs.extend(localnet(desired, uid, valid));
    refs.extend(service(desired, uid, valid, routers));
    refs.extend(
        routers
            .iter()
            .map(|(router, name, joint)| router::plug(desired, *router, name, joint)),
    );
    let mut options = BTreeMap::new();
    for subnet in &valid.subnets {
        if let Some(row) = dhcp::options(uid, valid, mtu, subnet) {
            let row = desired.insert(key::dhcp(uid, &subnet.name), &row);
            options.insert(subnet.name.as_str(), row);
        }
    }
    let mut names = Names::new(valid.dns_domain.as_deref());
    let (mut secured, mut limited) = (BTreeSet::new(), BTreeSet::new());
    for port in ports {
        let Some(port_uid) = port.uid().and_then(|uid| uid.parse::<Uuid>().ok()) else {
            continue;
        };
        let addresses = addresses(port);
        let mut host = port.spec.hostname.clone();
        let own = port.namespace().unwrap_or_default();
        if !host.is_empty() && network.namespace().unwrap_or_default() != own {
            // So that nobody is called as a guest of another namespace is.
            host = format!("{host}.{own}");
        }
        names.add(&host, &addresses);
        let own = options_of_its_own(desired, uid, port, port_uid, valid, mtu);
        let row = port_row(
            port,
            port_uid,
            valid,
            &addresses,
            if own.is_empty() { &options } else { &own },
        );
        let row = desired.insert(key::part(uid, port_uid), &row);
        secured.extend(valid.port_security.then(|| row.clone()));
        refs.insert(row);
        if let Some(limits) = port.spec.qos.or(network.spec.qos) {
            limited.extend(qos::insert(desired, uid, port_uid, &limits));
        }
    }
    security_group::close(desired, uid, secured);
    let dns = names.row().map(|row| desired.insert(key::part(uid, "dns"), &row));
    let name = format!("{}/{}", network.namespace().unwrap_or_default(), network.name_any());
    let row = LogicalSwitch {
        name: name.clone(),
        ports: refs,
        qos_rules: limited,
        dns_records: dns.into_iter().collect(),
        load_balancer: sharing.balancers,
        external_ids: [(NETWORK.to_owned(), name)].into(),
        ..LogicalSwitch::default()
    };
    desired.insert(key::switch(uid), &row);
}

/// What DHCP tells a Port whose options are not its subnets'.
fn options_of_its_own<'a>(
    desired: &mut Desired,
    network: Uuid,
    port: &Port,
    uid: Uuid,
    valid: &'a ValidNetwork,
    mtu: u16,
) -> BTreeMap<&'a str, Ref<DhcpOptions>> {
    let mut options = BTreeMap::new();
    if port.spec.dhcp_options.is_empty() {
        return options;
    }
    let its = |name: &str| port.spec.addresses.iter().any(|held| held.subnet == name);
    for subnet in valid.subnets.iter().filter(|subnet| its(&subnet.name)) {
        if let Some(mut row) = dhcp::options(network, valid, mtu, subnet) {
            dhcp::add(&mut row, subnet, &port.spec.dhcp_options);
            let row = desired.insert(key::part(network, format!("{uid}/dhcp/{}", subnet.name)), &row);
            options.insert(subnet.name.as_str(), row);
        }
    }
    options
}

/// The way into the physical network.
fn localnet(desired: &mut Desired, uid: Uuid, valid: &ValidNetwork) -> Option<Ref<LogicalSwitchPort>> {
    let Segment::Physical { network, vlan } = &valid.segment else {
        return None;
    };
    let row = LogicalSwitchPort {
        name: format!("{uid}-localnet"),
        kind: "localnet".to_owned(),
        options: [("network_name".to_owned(), network.clone())].into(),
        tag: Keep::Set(vlan.map(i64::from)),
        addresses: [UNKNOWN.to_owned()].into(),
        ..LogicalSwitchPort::default()
    };
    Some(desired.insert(key::part(uid, "localnet"), &row))
}

/// Has each host say where the address is that its guests ask for leases and names; OVN answers what is sent there. The
/// rest of what is sent to a gateway that is no router goes nowhere.
///
/// Where a Router has the address it says so itself.
fn service(
    desired: &mut Desired,
    uid: Uuid,
    valid: &ValidNetwork,
    routers: &[(Uuid, String, Joint)],
) -> Option<Ref<LogicalSwitchPort>> {
    let of_routers = routers.iter().flat_map(|(_, _, joint)| &joint.addresses);
    let routed: BTreeSet<IpAddr> = of_routers.map(|(address, _)| *address).collect();
    let addresses: BTreeSet<IpAddr> = valid
        .subnets
        .iter()
        .filter_map(|subnet| dhcp::service(valid, subnet))
        .filter(|address| !routed.contains(address))
        .collect();
    if addresses.is_empty() {
        return None;
    }
    let row = LogicalSwitchPort {
        name: format!("{uid}-service"),
        kind: "localport".to_owned(),
        addresses: [format!("{} {}", key::service_mac(uid), spaced(&addresses))].into(),
        ..LogicalSwitchPort::default()
    };
    Some(desired.insert(key::part(uid, "service"), &row))
}

fn port_row(
    port: &Port,
    uid: Uuid,
    valid: &ValidNetwork,
    addresses: &BTreeSet<IpAddr>,
    options: &BTreeMap<&str, Ref<DhcpOptions>>,
) -> LogicalSwitchPort {
    let own = format!("{} {}", port.spec.mac, spaced(addresses)).trim_end().to_owned();
    // One address of each family is told; cloud-init tells the others.
    let told = |v4: bool| {
        port.spec
            .addresses
            .iter()
            .filter(|held| held.ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() == v4))
            .find_map(|held| options.get(held.subnet.as_str()).cloned())
    };
    let namespace = port.namespace().unwrap_or_default();
    let mut external_ids = BTreeMap::from([(PORT.to_owned(), format!("{namespace}/{}", port.name_any()))]);
    if !port.spec.instance.is_empty() {
        external_ids.insert(INSTANCE.to_owned(), format!("{namespace}/{}", port.spec.instance));
    }
    let (known, secured) = if valid.port_security {
        let (secured, others) = security_group::port_security(&port.spec, &own);
        let unknown = others.then(|| UNKNOWN.to_owned());
        ([own].into_iter().chain(unknown).collect(), secured)
    } else {
        ([own, UNKNOWN.to_owned()].into(), BTreeSet::new())
    };
    // ovn-northd copies the tag of a request; ours is written, as people do by `ovn-nbctl lsp-add`'s parent and tag.
    let trunk = port.spec.trunk.as_ref();
    LogicalSwitchPort {
        name: uid.to_string(),
        parent_name: trunk.map(|trunk| trunk.uid.clone()),
        tag: Keep::Set(trunk.map(|trunk| i64::from(trunk.segment_id))),
        addresses: known,
        port_security: secured,
        dhcpv4_options: told(true),
        dhcpv6_options: told(false),
        external_ids,
        ..LogicalSwitchPort::default()
    }
}

fn addresses(port: &Port) -> BTreeSet<IpAddr> {
    port.spec
        .addresses
        .iter()
        .filter_map(|address| address.ip.parse().ok())
        .collect()
}
