//! The tables of OVN's database `OVN_Southbound` that are read (ovn-sb(5)): which hosts there are, and which members of load
//! balancers answer. Nothing is written there.

use std::collections::BTreeMap;

use crate::{
    northbound::describe::table,
    table::{Table, TableSpec},
};

/// The database's name.
pub const DATABASE: &str = "OVN_Southbound";

/// All tables that are described here, to be watched.
pub const TABLES: [&TableSpec; 2] = [Chassis::SPEC, ServiceMonitor::SPEC];

table! {
    /// A host, as its ovn-controller describes it.
    pub struct Chassis = "Chassis", Required, ExternalIds {
        /// Its system-id.
        name: String = "name", Required, Whole;
        /// Its name for people.
        hostname: String = "hostname", Optional, Whole;
        /// What it says of itself: `ovn-bridge-mappings` and others.
        other_config: BTreeMap<String, String> = "other_config", Optional, Whole;
        /// The same, of hosts before OVN 20.12.
        external_ids: BTreeMap<String, String> = "external_ids", Optional, Marked;
    }
}

table! {
    /// A port of a member of load balancers, which its host asks whether it answers.
    pub struct ServiceMonitor = "Service_Monitor", Required, ExternalIds {
        /// The member's address.
        ip: String = "ip", Required, Whole;
        /// `tcp` or `udp`.
        protocol: Option<String> = "protocol", Required, Whole;
        /// The number of the port.
        port: i64 = "port", Required, Whole;
        /// The name of the switch's port that the member is behind.
        logical_port: String = "logical_port", Required, Whole;
        /// `online`, `offline` or `error`; none: it was not asked yet.
        status: Option<String> = "status", Required, Whole;
        /// Marks.
        external_ids: BTreeMap<String, String> = "external_ids", Required, Marked;
    }
}

impl Chassis {
    /// The physical networks that it has a bridge to (`physnet:br-ex,other:br-other`).
    pub fn physical_networks(&self) -> impl Iterator<Item = &str> {
        const MAPPINGS: &str = "ovn-bridge-mappings";
        let mappings = self
            .other_config
            .get(MAPPINGS)
            .or_else(|| self.external_ids.get(MAPPINGS));
        mappings
            .into_iter()
            .flat_map(|mappings| mappings.split(','))
            .filter_map(|mapping| mapping.split_once(':'))
            .map(|(network, _)| network.trim())
            .filter(|network| !network.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_says_which_physical_networks_it_reaches() {
        let chassis = |mappings: &str| Chassis {
            other_config: [("ovn-bridge-mappings".to_owned(), mappings.to_owned())].into(),
            ..Chassis::default()
        };
        let of = |mappings| {
            chassis(mappings)
                .physical_networks()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(of("physnet:br-ex, lab:br-lab"), ["physnet", "lab"]);
        assert!(of("").is_empty() && of("nonsense").is_empty());
        assert_eq!(Chassis::default().physical_networks().count(), 0);
    }
}
