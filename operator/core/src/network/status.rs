use jiff::Timestamp;
use virga_crds::{Network, NetworkStatus, SubnetUsage, conditions::Reason};

use super::{NetworkAddresses, ValidNetwork};
use crate::{
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
    backend: &str,
    users: impl Iterator<Item = &'a User>,
    now: Timestamp,
) -> (Protection, NetworkStatus) {
    let protection = protection(&network.metadata, users);
    let old = network
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let mut conditions = Conditions::new(old, network.metadata.generation, now);
    match (&protection, valid) {
        (Protection::InUse(message), _) => conditions.set_ready(Progress::Working, Reason::InUse, message),
        (_, Err(problems)) => conditions.set_ready(Progress::Stuck, Reason::Invalid, problems.to_string()),
        (_, Ok(_)) => conditions.set_ready(Progress::Done, Reason::AsSpecified, "Instances can be plugged in"),
    }
    let usage = addresses.into_iter().flat_map(NetworkAddresses::usage);
    let status = NetworkStatus {
        observed_generation: network.metadata.generation,
        backend: Some(backend.into()),
        mtu: valid.as_ref().ok().and_then(|valid| valid.mtu),
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
