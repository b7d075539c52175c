//! Which object is a row of ours about?

use std::{collections::BTreeSet, net::IpAddr};

use uuid::Uuid;
use virga_ovsdb::reconcile::Problem;

use crate::security_group::whose_group;

/// The objects that a row belongs to, by their uids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Whose {
    /// The Network, or the Router.
    pub network: Uuid,
    /// The Port, for its own row.
    pub port: Option<Uuid>,
}

/// The objects that a row with this key belongs to.
pub fn whose(key: &str) -> Option<Whose> {
    let mut parts = key.split('/');
    let network = parts.next()?.parse().ok()?;
    let port = parts.next().and_then(|part| part.parse().ok());
    Some(Whose { network, port })
}

/// The objects that a problem is about; of a row that should go and stays there is none.
pub fn of_problem(problem: &Problem) -> Option<Whose> {
    whose(row_of(problem)?)
}

/// The SecurityGroup whose rules a problem keeps from being in force.
pub fn group_of_problem(problem: &Problem) -> Option<Uuid> {
    match problem {
        // A Port that can't be is told of itself.
        Problem::NoReferent { .. } => None,
        problem => whose_group(row_of(problem)?),
    }
}

fn row_of(problem: &Problem) -> Option<&str> {
    match problem {
        Problem::Twice(row)
        | Problem::NoTable(row)
        | Problem::Orphan(row)
        | Problem::NoColumn { row, .. }
        | Problem::Taken { row, .. }
        | Problem::NoReferent { row, .. }
        | Problem::Incomplete { row, .. } => Some(&row.key),
        Problem::Needed { .. } | Problem::Holds { .. } => None,
    }
}

pub(crate) fn switch(network: Uuid) -> String {
    network.to_string()
}

pub(crate) fn router(router: Uuid) -> String {
    router.to_string()
}

/// What OVN calls a Router's port in a Network.
pub(crate) fn router_port(router: Uuid, network: Uuid) -> String {
    format!("{router}-{network}")
}

/// The MAC address of a Router in a Network: locally administered, and of another kind than Ports' and services'.
pub(crate) fn router_mac(router: Uuid, network: Uuid) -> String {
    let digits = Uuid::new_v5(&router, network.as_bytes()).simple().to_string();
    let pairs = (0..5).map(|pair| &digits[2 * pair..2 * pair + 2]);
    pairs.fold("0e".to_owned(), |mac, pair| format!("{mac}:{pair}"))
}

pub(crate) fn part(network: Uuid, part: impl std::fmt::Display) -> String {
    format!("{network}/{part}")
}

pub(crate) fn dhcp(network: Uuid, subnet: &str) -> String {
    format!("{network}/dhcp/{subnet}")
}

/// The MAC address of what answers DHCP and DNS in a network: locally administered, so that no Port's is the same.
pub(crate) fn service_mac(network: Uuid) -> String {
    let digits = network.simple().to_string();
    let pairs = (0..5).map(|pair| &digits[22 + 2 * pair..24 + 2 * pair]);
    pairs.fold("0a".to_owned(), |mac, pair| format!("{mac}:{pair}"))
}

/// Several addresses as OVN writes them behind a name or a MAC address.
pub(crate) fn spaced(addresses: &BTreeSet<IpAddr>) -> String {
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    addresses.join(" ")
}

/// Several addresses as OVN writes a set in a DHCP option.
pub(crate) fn listed(addresses: &[IpAddr]) -> Option<String> {
    match addresses {
        [] => None,
        [one] => Some(one.to_string()),
        several => {
            let several: Vec<String> = several.iter().map(IpAddr::to_string).collect();
            Some(format!("{{{}}}", several.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use virga_ovsdb::reconcile::RowId;

    use super::*;

    #[test]
    fn a_key_says_whose_it_is() {
        let (network, port) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let of = |key: &str| whose(key).map(|whose| (whose.network, whose.port));
        assert_eq!(of(&switch(network)), Some((network, None)));
        assert_eq!(of(&part(network, port)), Some((network, Some(port))));
        assert_eq!(of(&part(network, "localnet")), Some((network, None)));
        assert_eq!(of(&dhcp(network, "v4")), Some((network, None)));
        assert_eq!(of("elsewhere"), None);
        let row = RowId {
            table: "Logical_Switch_Port",
            key: part(network, port).into(),
        };
        assert_eq!(of_problem(&Problem::Orphan(row)).unwrap().port, Some(port));
    }

    #[test]
    fn a_service_has_a_mac_address_of_its_own_kind() {
        assert_eq!(service_mac(Uuid::from_u128(0xabcd)), "0a:00:00:00:ab:cd");
    }
}
