//! The tables of OVN's database `OVN_Northbound` that networks need, as structs (ovn-nb(5)).
//!
//! A struct has the columns that are ours. What `ovn-northd` writes back is watched too, and read with
//! [`Row::get`](crate::replica::Row::get). Columns that are not here are never touched.

pub(crate) mod describe;
mod global;
mod load_balancer;
mod router;
mod rule;
mod switch;

pub use global::NbGlobal;
pub use load_balancer::{LoadBalancer, LoadBalancerGroup, LoadBalancerHealthCheck, Protocol, SelectionField};
pub use router::{
    GatewayChassis, HaChassis, HaChassisGroup, LogicalRouter, LogicalRouterPort, LogicalRouterStaticRoute, Nat,
    NatType, RoutePolicy,
};
pub use rule::{
    Acl, AclAction, AddressSet, BandAction, Bandwidth, Direction, Meter, MeterBand, MeterUnit, PortGroup, Qos, QosMark,
    Severity,
};
pub use switch::{DhcpOptions, Dns, LogicalSwitch, LogicalSwitchPort};

use crate::table::{Table, TableSpec};

/// The database's name.
pub const DATABASE: &str = "OVN_Northbound";

/// All tables that are described here, to be watched.
pub const TABLES: [&TableSpec; 21] = [
    Acl::SPEC,
    AddressSet::SPEC,
    DhcpOptions::SPEC,
    Dns::SPEC,
    GatewayChassis::SPEC,
    HaChassis::SPEC,
    HaChassisGroup::SPEC,
    LoadBalancer::SPEC,
    LoadBalancerGroup::SPEC,
    LoadBalancerHealthCheck::SPEC,
    LogicalRouter::SPEC,
    LogicalRouterPort::SPEC,
    LogicalRouterStaticRoute::SPEC,
    LogicalSwitch::SPEC,
    LogicalSwitchPort::SPEC,
    Meter::SPEC,
    MeterBand::SPEC,
    Nat::SPEC,
    NbGlobal::SPEC,
    PortGroup::SPEC,
    Qos::SPEC,
];
