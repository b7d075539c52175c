use jiff::Timestamp;
use virga_crds::{JoinedNetwork, Router, RouterStatus, conditions::Reason};

use crate::{
    condition::{Conditions, Progress, is_true},
    network::Backend,
    protection::{Protection, protection},
};

/// Something in a Router's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// For a condition.
    pub reason: Reason,
    /// The same in words, with the cure.
    pub message: String,
}

/// What became of a Router in the back end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its addresses outside.
    pub external: Vec<String>,
    /// The hosts that can be its gateway, in order.
    pub chassis: Vec<String>,
    /// The Networks that it has joined.
    pub networks: Vec<JoinedNetwork>,
    /// The first thing that is not as its spec says.
    pub problem: Option<Obstacle>,
}

/// What the back end says of a Router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// This.
    Seen(Seen),
    /// Nobody has looked yet since this process leads: what was said before holds.
    Unknown,
    /// It can't be told.
    No(Obstacle),
}

/// What to do about a Router. `obstacle` is what keeps it from having its addresses.
pub fn plan(
    router: &Router,
    backend: Backend,
    obstacle: Option<&Obstacle>,
    carried: &Carried,
    now: Timestamp,
) -> (Protection, RouterStatus) {
    let protection = protection(&router.metadata, [].into_iter());
    let old = router.status.clone().unwrap_or_default();
    let said_so = is_true(&old.conditions, virga_crds::conditions::types::READY)
        && old.observed_generation == router.metadata.generation;
    let mut conditions = Conditions::new(&old.conditions, router.metadata.generation, now);
    let seen = match carried {
        Carried::Seen(seen) => Some(seen),
        _ => None,
    };
    let in_the_way = match carried {
        Carried::No(obstacle) => Some(obstacle),
        Carried::Seen(seen) => obstacle.or(seen.problem.as_ref()),
        Carried::Unknown => obstacle,
    };
    if backend == Backend::Libvirt {
        let message = "libvirt's networks have no routers: have the operator install Virga with OVN";
        conditions.set_ready(Progress::Stuck, Reason::NotSupported, message);
    } else if let Some(Obstacle { reason, message }) = in_the_way {
        conditions.set_ready(progress(*reason), *reason, message);
    } else if seen.is_none() && !said_so {
        conditions.set_ready(Progress::Working, Reason::Building, "being written to OVN");
    } else {
        conditions.set_ready(
            Progress::Done,
            Reason::AsSpecified,
            "its Networks reach each other, and the outside if it has one",
        );
    }
    let Seen {
        external,
        chassis,
        networks,
        ..
    } = seen.cloned().unwrap_or(Seen {
        external: old.external_addresses,
        chassis: old.gateway_chassis,
        networks: old.networks,
        problem: None,
    });
    let status = RouterStatus {
        observed_generation: router.metadata.generation,
        external_addresses: external,
        gateway_chassis: chassis,
        networks,
        conditions: conditions.into_vec(),
    };
    (protection, status)
}

/// Whether it goes on by itself, or somebody has to write another spec.
pub(crate) fn progress(reason: Reason) -> Progress {
    match reason {
        Reason::Invalid | Reason::AddressInUse | Reason::AddressInvalid | Reason::NotSupported => Progress::Stuck,
        _ => Progress::Working,
    }
}

#[cfg(test)]
mod tests {
    use virga_crds::RouterSpec;

    use super::*;

    const OVN: Backend = Backend::Ovn { underlay_mtu: 1500 };

    fn told(backend: Backend, obstacle: Option<&Obstacle>, carried: &Carried, old: Option<RouterStatus>) -> String {
        let mut router = Router::new("edge", RouterSpec::default());
        router.status = old;
        let (_, status) = plan(&router, backend, obstacle, carried, Timestamp::UNIX_EPOCH);
        let ready = &status.conditions[0];
        let second = status.conditions.get(1).map(|condition| condition.type_.as_str());
        format!("{}/{} {}", ready.status, ready.reason, second.unwrap_or_default())
    }

    #[test]
    fn the_first_thing_that_is_wrong_is_told_and_what_was_said_holds_until_somebody_looks() {
        let seen = |problem| {
            Carried::Seen(Seen {
                problem,
                ..Seen::default()
            })
        };
        let obstacle = |reason| Obstacle {
            reason,
            message: "x".into(),
        };
        let taken = obstacle(Reason::AddressInUse);
        assert_eq!(told(OVN, None, &seen(None), None), "True/AsSpecified ");
        assert_eq!(told(OVN, Some(&taken), &seen(None), None), "False/AddressInUse Stalled");
        let waits = seen(Some(obstacle(Reason::NetworkNotFound)));
        assert_eq!(told(OVN, None, &waits, None), "False/NetworkNotFound Reconciling");
        assert_eq!(told(OVN, None, &Carried::Unknown, None), "False/Building Reconciling");
        let router = Router::new("edge", RouterSpec::default());
        let (_, before) = plan(&router, OVN, None, &seen(None), Timestamp::UNIX_EPOCH);
        assert_eq!(told(OVN, None, &Carried::Unknown, Some(before)), "True/AsSpecified ");
        assert_eq!(
            told(Backend::Libvirt, None, &Carried::Unknown, None),
            "False/NotSupported Stalled"
        );
    }
}
