//! What passes and how fast: ACLs, the groups that they name, rates and meters.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    describe::{table, words},
    switch::LogicalSwitchPort,
};
use crate::table::Ref;

words! {
    /// Seen from the guest: what leaves a port comes from it.
    pub enum Direction {
        /// Out of the guest.
        FromPort = "from-lport",
        /// Into the guest.
        ToPort = "to-lport",
    }
}

words! {
    /// What happens to a packet.
    pub enum AclAction {
        /// It is dropped.
        Drop = "drop",
        /// It passes.
        Allow = "allow",
        /// It passes, and the replies to it.
        AllowRelated = "allow-related",
        /// It passes without connection tracking.
        AllowStateless = "allow-stateless",
        /// It is dropped, and its sender is told.
        Reject = "reject",
        /// The next tier decides (OVN 23.06).
        Pass = "pass",
    }
}

words! {
    /// How loud a match is logged.
    pub enum Severity {
        /// Loudest.
        Alert = "alert",
        /// Loud.
        Warning = "warning",
        /// Above information.
        Notice = "notice",
        /// Information.
        Info = "info",
        /// For debugging.
        Debug = "debug",
    }
}

table! {
    /// A rule. It lives in a switch or a port group.
    pub struct Acl = "ACL", Required, ExternalIds {
        /// For the log; 63 characters at most.
        name: Option<String> = "name", Required, Whole;
        /// 0 to 32767; the highest that matches decides.
        priority: i64 = "priority", Required, Whole;
        /// Which way.
        direction: Direction = "direction", Required, Whole;
        /// An expression of OVN's.
        matching: String = "match", Required, Whole;
        /// What happens.
        action: AclAction = "action", Required, Whole;
        /// Whether matches are logged.
        log: bool = "log", Required, Whole;
        /// How loud.
        severity: Option<Severity> = "severity", Required, Whole;
        /// The name of a meter that limits the log.
        meter: Option<String> = "meter", Required, Whole;
        /// A number for the connection, seen in conntrack.
        label: i64 = "label", Optional, Whole;
        /// 0 to 3, in order (OVN 23.06).
        tier: i64 = "tier", Optional, Whole;
        /// Settings.
        options: BTreeMap<String, String> = "options", Optional, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}

table! {
    /// Ports by a name that expressions use: `@name`, and `$name_ip4` for their addresses.
    pub struct PortGroup = "Port_Group", Required, ExternalIds {
        /// Unique; letters, digits, `_` and `.`, and no digit first.
        name: String = "name", Required, Whole;
        /// Its ports.
        ports: BTreeSet<Ref<LogicalSwitchPort>> = "ports", Required, Whole;
        /// Rules for its ports, which live with it.
        acls: BTreeSet<Ref<Acl>> = "acls", Required, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}

table! {
    /// Addresses by a name that expressions use: `$name`.
    pub struct AddressSet = "Address_Set", Required, ExternalIds {
        /// Unique; letters, digits, `_` and `.`, and no digit first.
        name: String = "name", Required, Whole;
        /// Addresses or CIDRs of one kind.
        addresses: BTreeSet<String> = "addresses", Required, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}

words! {
    /// What a QoS rule marks.
    pub enum QosMark {
        /// The DSCP field, 0 to 63.
        Dscp = "dscp",
        /// The packet's mark on its host (OVN 24.03).
        Mark = "mark",
    }
}

words! {
    /// What a QoS rule limits.
    pub enum Bandwidth {
        /// kbit/s.
        Rate = "rate",
        /// kbit.
        Burst = "burst",
    }
}

table! {
    /// A rate or a mark for what matches. It lives in a switch.
    pub struct Qos = "QoS", Required, ExternalIds {
        /// 0 to 32767; the highest that matches decides.
        priority: i64 = "priority", Required, Whole;
        /// Which way.
        direction: Direction = "direction", Required, Whole;
        /// An expression of OVN's.
        matching: String = "match", Required, Whole;
        /// Marks of packets.
        action: BTreeMap<QosMark, i64> = "action", Required, Whole;
        /// Limits.
        bandwidth: BTreeMap<Bandwidth, i64> = "bandwidth", Required, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}

words! {
    /// What a meter counts.
    pub enum MeterUnit {
        /// kbit/s.
        Kbps = "kbps",
        /// Packets a second.
        Pktps = "pktps",
    }
}

table! {
    /// A limit by a name that ACLs' logs use.
    pub struct Meter = "Meter", Required, ExternalIds {
        /// Unique; names that begin with `__` are OVN's own.
        name: String = "name", Required, Whole;
        /// What is counted.
        unit: MeterUnit = "unit", Required, Whole;
        /// At least one.
        bands: BTreeSet<Ref<MeterBand>> = "bands", Required, Whole;
        /// Whether each user of it has the limit for itself.
        fair: Option<bool> = "fair", Optional, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}

words! {
    /// What happens above a band's rate.
    pub enum BandAction {
        /// It is dropped.
        Drop = "drop",
    }
}

table! {
    /// A step of a meter.
    pub struct MeterBand = "Meter_Band", Required, ExternalIds {
        /// What happens above the rate.
        action: BandAction = "action", Required, Whole;
        /// In the meter's unit, at least 1.
        rate: i64 = "rate", Required, Whole;
        /// In the meter's unit; 0 leaves it to the datapath.
        burst_size: i64 = "burst_size", Required, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}
