use jiff::Timestamp;
use virga_crds::{
    Network, NetworkStatus, SubnetUsage,
    conditions::{Reason, types},
};

use super::{Backend, NetworkAddresses, ValidNetwork, sharing};
use crate::{
    condition::{Conditions, Progress, is_true},
    problem::Problems,
    protection::{Protection, protection},
    uses::User,
};

/// What the back end says of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Carried {
    /// It is there as the spec says, or needs to be nowhere but on the hosts.
    #[default]
    AsSpecified,
    /// Nobody has looked yet since this process leads: what was said before holds.
    Unknown,
    /// It is not there, or not as it should be.
    No {
        /// Why.
        reason: Reason,
        /// The same in words.
        message: String,
    },
}

/// What to do about a network, given what its spec says and which addresses are taken.
pub fn plan<'a>(
    network: &Network,
    valid: &Result<ValidNetwork, Problems>,
    addresses: Option<&NetworkAddresses>,
    backend: Backend,
    carried: &Carried,
    users: impl Iterator<Item = &'a User> + Clone,
    now: Timestamp,
) -> (Protection, NetworkStatus) {
    let protection = protection(&network.metadata, users.clone());
    let status = network.status.as_ref();
    let old = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let said_so = is_true(old, types::READY)
        && status.is_some_and(|status| status.observed_generation == network.metadata.generation);
    let mut conditions = Conditions::new(old, network.metadata.generation, now);
    match (&protection, valid, carried) {
        (Protection::InUse(message), ..) => conditions.set_ready(Progress::Working, Reason::InUse, message),
        (_, Err(problems), _) => conditions.set_ready(Progress::Stuck, Reason::Invalid, problems.to_string()),
        (_, Ok(_), Carried::No { reason, message }) => conditions.set_ready(Progress::Working, *reason, message),
        (_, Ok(_), Carried::Unknown) if !said_so => {
            conditions.set_ready(Progress::Working, Reason::Building, "being written to OVN");
        }
        (_, Ok(_), _) => conditions.set_ready(Progress::Done, Reason::AsSpecified, "Instances can be plugged in"),
    }
    match sharing::said(network, users) {
        Some((so, reason, message)) => conditions.set(types::SHARED, so, reason, message),
        None => conditions.remove(types::SHARED),
    }
    let usage = addresses.into_iter().flat_map(NetworkAddresses::usage);
    let status = NetworkStatus {
        observed_generation: network.metadata.generation,
        backend: Some(backend.name().into()),
        mtu: valid.as_ref().ok().and_then(|valid| backend.mtu(valid)),
        subnets: usage
            .map(|(name, total, used)| SubnetUsage {
                name: name.into(),
                total,
                used,
            })
            .collect(),
        conditions: conditions.into_vec(),
    };
    (protection, status)
}
