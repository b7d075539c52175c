use jiff::Timestamp;
use virga_crds::{
    Network, NetworkStatus, SubnetUsage,
    conditions::{Reason, types},
};

use super::{Backend, NetworkAddresses, ValidNetwork, sharing};
use crate::{
    carried::{Carried, Obstacle},
    condition::{Conditions, Progress},
    problem::Problems,
    protection::{Protection, protection},
    uses::User,
};

/// What to do about a network, given what its spec says and which addresses are taken.
pub fn plan<'a>(
    network: &Network,
    valid: &Result<ValidNetwork, Problems>,
    addresses: Option<&NetworkAddresses>,
    backend: Backend,
    carried: &Carried<Option<Obstacle>>,
    users: impl Iterator<Item = &'a User> + Clone,
    now: Timestamp,
) -> (Protection, NetworkStatus) {
    let protection = protection(&network.metadata, users.clone());
    let status = network.status.as_ref();
    let old = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let observed = status.and_then(|status| status.observed_generation);
    let mut conditions = Conditions::new(old, network.metadata.generation, now);
    let was_ready = conditions.was_ready(observed);
    match (&protection, valid, carried.in_the_way(was_ready)) {
        (Protection::InUse(message), ..) => conditions.set_ready(Progress::Working, Reason::InUse, message),
        (_, Err(problems), _) => conditions.set_ready(Progress::Stuck, Reason::Invalid, problems.to_string()),
        (_, Ok(_), Some((reason, message))) => conditions.set_ready(Progress::Working, reason, message),
        (_, Ok(_), None) => conditions.set_ready(Progress::Done, Reason::AsSpecified, "Instances can be plugged in"),
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
