//! Load balancers, groups of them, and what looks after their members.

use std::collections::{BTreeMap, BTreeSet};

use super::describe::{table, words};
use crate::table::Ref;

words! {
    /// What is balanced.
    pub enum Protocol {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
        /// SCTP.
        Sctp = "sctp",
    }
}

words! {
    /// What decides on the member besides the usual five fields.
    pub enum SelectionField {
        /// Source MAC.
        EthSource = "eth_src",
        /// Destination MAC.
        EthDestination = "eth_dst",
        /// Source address.
        IpSource = "ip_src",
        /// Destination address.
        IpDestination = "ip_dst",
        /// Source port.
        PortSource = "tp_src",
        /// Destination port.
        PortDestination = "tp_dst",
    }
}

table! {
    /// A load balancer.
    pub struct LoadBalancer = "Load_Balancer", Required, ExternalIds {
        /// For people; it need not be unique.
        name: String = "name", Required, Whole;
        /// `VIP:port` → `member:port,…`.
        vips: BTreeMap<String, String> = "vips", Required, Whole;
        /// TCP if none.
        protocol: Option<Protocol> = "protocol", Required, Whole;
        /// Checks, which live with it.
        health_check: BTreeSet<Ref<LoadBalancerHealthCheck>> = "health_check", Required, Whole;
        /// Member's address → `port name:address to check from`.
        ip_port_mappings: BTreeMap<String, String> = "ip_port_mappings", Required, Whole;
        /// What decides on the member.
        selection_fields: BTreeSet<SelectionField> = "selection_fields", Required, Whole;
        /// Settings: `reject`, `affinity_timeout`, `hairpin_snat_ip` and others.
        options: BTreeMap<String, String> = "options", Optional, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}

table! {
    /// Load balancers that many switches and routers have in common. The table has no marks: the name says whose it is.
    pub struct LoadBalancerGroup = "Load_Balancer_Group", Optional, Name {
        /// Its load balancers.
        load_balancer: BTreeSet<Ref<LoadBalancer>> = "load_balancer", Required, Whole;
    }
    watched {
        "name": String, Required;
    }
}

table! {
    /// A check of the members behind one address. It lives in a load balancer.
    pub struct LoadBalancerHealthCheck = "Load_Balancer_Health_Check", Required, ExternalIds {
        /// The load balancer's address and port.
        vip: String = "vip", Required, Whole;
        /// `interval`, `timeout`, `success_count`, `failure_count`.
        options: BTreeMap<String, String> = "options", Required, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}
