//! Routers: their ports, routes and translations, and the hosts that are their gateways.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    LoadBalancer, LoadBalancerGroup,
    describe::{table, words},
    rule::AddressSet,
};
use crate::table::Ref;

table! {
    /// A router.
    pub struct LogicalRouter = "Logical_Router", Required, ExternalIds {
        /// For people; it need not be unique.
        name: String = "name", Required, Whole;
        /// Its ports, which live with it.
        ports: BTreeSet<Ref<LogicalRouterPort>> = "ports", Required, Whole;
        /// Its routes, which live with it.
        static_routes: BTreeSet<Ref<LogicalRouterStaticRoute>> = "static_routes", Required, Whole;
        /// Its translations, which live with it.
        nat: BTreeSet<Ref<Nat>> = "nat", Required, Whole;
        /// Load balancers behind it.
        load_balancer: BTreeSet<Ref<LoadBalancer>> = "load_balancer", Required, Whole;
        /// Groups of them.
        load_balancer_group: BTreeSet<Ref<LoadBalancerGroup>> = "load_balancer_group", Optional, Whole;
        /// Whether it is on; none is on.
        enabled: Option<bool> = "enabled", Required, Whole;
        /// Settings: `chassis` makes it a gateway router, `always_learn_from_arp_request` and others.
        options: BTreeMap<String, String> = "options", Required, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
    // What others put here lives in the router, so the router must not go.
    watched { "policies": BTreeSet<uuid::Uuid>, Optional; }
}

table! {
    /// A port of a router. Its name is unique in the database.
    pub struct LogicalRouterPort = "Logical_Router_Port", Required, ExternalIds {
        /// Unique.
        name: String = "name", Required, Whole;
        /// Its MAC address.
        mac: String = "mac", Required, Whole;
        /// `IP/prefix`, at least one.
        networks: BTreeSet<String> = "networks", Required, Whole;
        /// The port of another router that it is plugged into; none for a switch.
        peer: Option<String> = "peer", Required, Whole;
        /// Whether it is on; none is on.
        enabled: Option<bool> = "enabled", Required, Whole;
        /// Hosts that can be its gateway, which live with it.
        gateway_chassis: BTreeSet<Ref<GatewayChassis>> = "gateway_chassis", Required, Whole;
        /// The same, as a group that several ports share.
        ha_chassis_group: Option<Ref<HaChassisGroup>> = "ha_chassis_group", Optional, Whole;
        /// What it advertises: `address_mode`, `mtu`, `send_periodic` and others.
        ipv6_ra_configs: BTreeMap<String, String> = "ipv6_ra_configs", Required, Whole;
        /// Settings: `gateway_mtu`, `reside-on-redirect-chassis` and others.
        options: BTreeMap<String, String> = "options", Required, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
    watched {
        "ipv6_prefix": BTreeSet<String>, Optional;
        "status": BTreeMap<String, String>, Optional;
    }
}

words! {
    /// Which address of a packet a route looks at.
    pub enum RoutePolicy {
        /// The destination.
        Destination = "dst-ip",
        /// The source.
        Source = "src-ip",
    }
}

table! {
    /// A route. It lives in a router.
    pub struct LogicalRouterStaticRoute = "Logical_Router_Static_Route", Required, ExternalIds {
        /// Where to.
        ip_prefix: String = "ip_prefix", Required, Whole;
        /// By way of: an address, or `discard`.
        nexthop: String = "nexthop", Required, Whole;
        /// The port's name, where the address does not tell.
        output_port: Option<String> = "output_port", Required, Whole;
        /// Destination if none.
        policy: Option<RoutePolicy> = "policy", Required, Whole;
        /// The table; empty is the main one.
        route_table: String = "route_table", Optional, Whole;
        /// Settings.
        options: BTreeMap<String, String> = "options", Optional, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}

words! {
    /// Which way a translation works.
    pub enum NatType {
        /// Of the source: many to one.
        Snat = "snat",
        /// Of the destination.
        Dnat = "dnat",
        /// Both: a floating IP.
        DnatAndSnat = "dnat_and_snat",
    }
}

table! {
    /// A translation. It lives in a router.
    pub struct Nat = "NAT", Required, ExternalIds {
        /// Which way.
        kind: NatType = "type", Required, Whole;
        /// The outer address.
        external_ip: String = "external_ip", Required, Whole;
        /// With `logical_port`, makes it distributed: this MAC answers on the guest's host.
        external_mac: Option<String> = "external_mac", Required, Whole;
        /// `low-high`.
        external_port_range: String = "external_port_range", Optional, Whole;
        /// The inner address, or for SNAT a CIDR.
        logical_ip: String = "logical_ip", Required, Whole;
        /// The name of the guest's port.
        logical_port: Option<String> = "logical_port", Required, Whole;
        /// Only for these outer addresses.
        allowed_ext_ips: Option<Ref<AddressSet>> = "allowed_ext_ips", Optional, Whole;
        /// Not for these outer addresses.
        exempted_ext_ips: Option<Ref<AddressSet>> = "exempted_ext_ips", Optional, Whole;
        /// The gateway port, for a router with several.
        gateway_port: Option<Ref<LogicalRouterPort>> = "gateway_port", Optional, Whole;
        /// Settings: `stateless` and others.
        options: BTreeMap<String, String> = "options", Optional, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}

table! {
    /// Hosts that stand in for one another.
    pub struct HaChassisGroup = "HA_Chassis_Group", Required, ExternalIds {
        /// Unique.
        name: String = "name", Required, Whole;
        /// Its hosts, which live with it.
        ha_chassis: BTreeSet<Ref<HaChassis>> = "ha_chassis", Required, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}

table! {
    /// A host in a group.
    pub struct HaChassis = "HA_Chassis", Required, ExternalIds {
        /// The host's system-id.
        chassis_name: String = "chassis_name", Required, Whole;
        /// 0 to 32767; the highest that lives is active.
        priority: i64 = "priority", Required, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}

table! {
    /// A host that can be a router port's gateway.
    pub struct GatewayChassis = "Gateway_Chassis", Required, ExternalIds {
        /// Unique.
        name: String = "name", Required, Whole;
        /// The host's system-id.
        chassis_name: String = "chassis_name", Required, Whole;
        /// 0 to 32767; the highest that lives is active.
        priority: i64 = "priority", Required, Whole;
        /// Settings.
        options: BTreeMap<String, String> = "options", Required, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}
