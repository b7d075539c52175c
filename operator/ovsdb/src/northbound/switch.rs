//! Networks: switches, their ports, and what these are told by DHCP and DNS.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    HaChassisGroup, LoadBalancer, LoadBalancerGroup,
    describe::table,
    rule::{Acl, Qos},
};
use crate::table::{Keep, Ref};

table! {
    /// A network.
    pub struct LogicalSwitch = "Logical_Switch", Required, ExternalIds {
        /// For people; it need not be unique.
        name: String = "name", Required, Whole;
        /// Its ports, which live with it.
        ports: BTreeSet<Ref<LogicalSwitchPort>> = "ports", Required, Whole;
        /// Rules for all of its ports, which live with it.
        acls: BTreeSet<Ref<Acl>> = "acls", Required, Whole;
        /// Rates and marks, which live with it.
        qos_rules: BTreeSet<Ref<Qos>> = "qos_rules", Required, Whole;
        /// Load balancers that its ports reach.
        load_balancer: BTreeSet<Ref<LoadBalancer>> = "load_balancer", Required, Whole;
        /// Groups of them.
        load_balancer_group: BTreeSet<Ref<LoadBalancerGroup>> = "load_balancer_group", Optional, Whole;
        /// Names that it answers.
        dns_records: BTreeSet<Ref<Dns>> = "dns_records", Required, Whole;
        /// Settings: `subnet`, `mcast_snoop`, `vlan-passthru` and others.
        other_config: BTreeMap<String, String> = "other_config", Required, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
    // What others put here lives in the switch, so the switch must not go.
    watched { "forwarding_groups": BTreeSet<uuid::Uuid>, Optional; }
}

table! {
    /// A port of a switch. Its name is unique in the database, and is what a node's `iface-id` says.
    pub struct LogicalSwitchPort = "Logical_Switch_Port", Required, ExternalIds {
        /// Unique.
        name: String = "name", Required, Whole;
        /// Empty for a guest's; `router`, `localnet`, `localport`, `external`, `virtual` and others.
        kind: String = "type", Required, Whole;
        /// Settings that depend on the type.
        options: BTreeMap<String, String> = "options", Required, Whole;
        /// The port whose guest tags the frames of this one.
        parent_name: Option<String> = "parent_name", Required, Whole;
        /// The tag in the parent's frames.
        tag_request: Option<i64> = "tag_request", Required, Whole;
        /// The VLAN of a `localnet` port. With a parent `ovn-northd` writes it.
        tag: Keep<Option<i64>> = "tag", Required, Whole;
        /// `MAC IP...`, `router`, `unknown` or `dynamic`.
        addresses: BTreeSet<String> = "addresses", Required, Whole;
        /// What its guest may send from; empty allows everything.
        port_security: BTreeSet<String> = "port_security", Required, Whole;
        /// Whether it is on; none is on.
        enabled: Option<bool> = "enabled", Required, Whole;
        /// What DHCP tells it.
        dhcpv4_options: Option<Ref<DhcpOptions>> = "dhcpv4_options", Required, Whole;
        /// What DHCPv6 tells it.
        dhcpv6_options: Option<Ref<DhcpOptions>> = "dhcpv6_options", Required, Whole;
        /// Where an `external` port's packets are handled.
        ha_chassis_group: Option<Ref<HaChassisGroup>> = "ha_chassis_group", Optional, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
    watched {
        "up": Option<bool>, Required;
        "dynamic_addresses": Option<String>, Required;
    }
}

table! {
    /// What DHCP tells the ports that refer to it.
    pub struct DhcpOptions = "DHCP_Options", Required, ExternalIds {
        /// The subnet.
        cidr: String = "cidr", Required, Whole;
        /// `server_id`, `server_mac`, `lease_time`, `router`, `mtu`, `dns_server` and others.
        options: BTreeMap<String, String> = "options", Required, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}

table! {
    /// Names and their addresses, for the switches that refer to it.
    pub struct Dns = "DNS", Required, ExternalIds {
        /// By name in lower case: addresses with spaces between them.
        records: BTreeMap<String, String> = "records", Required, Whole;
        /// Since OVN 24.03: `ovn-owned`, that unknown names are not asked for elsewhere.
        options: BTreeMap<String, String> = "options", Optional, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}
