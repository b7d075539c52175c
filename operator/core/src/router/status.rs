use jiff::Timestamp;
use virga_crds::{JoinedNetwork, Router, RouterStatus, conditions::Reason};

use crate::{
    carried::{Carried, Obstacle, Standing},
    condition::Progress,
    network::Backend,
    protection::{Protection, protection},
};

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

/// What to do about a Router. `obstacle` is what keeps it from having its addresses.
pub fn plan(
    router: &Router,
    backend: Backend,
    obstacle: Option<&Obstacle>,
    carried: &Carried<Seen>,
    now: Timestamp,
) -> (Protection, RouterStatus) {
    let protection = protection(&router.metadata, [].into_iter());
    let old = router.status.clone().unwrap_or_default();
    let standing = Standing {
        backend,
        kind: "routers",
        obstacle,
        carried,
        problem: |seen| seen.problem.as_ref(),
    };
    let said = (old.observed_generation, old.conditions.as_slice());
    let conditions = standing.conditions(&router.metadata, said, now, || {
        let message = "its Networks reach each other, and the outside if it has one";
        (Progress::Done, Reason::AsSpecified, message.into())
    });
    let mut status = RouterStatus {
        observed_generation: router.metadata.generation,
        conditions,
        ..old
    };
    if let Some(seen) = carried.seen() {
        status.external_addresses.clone_from(&seen.external);
        status.gateway_chassis.clone_from(&seen.chassis);
        status.networks.clone_from(&seen.networks);
    }
    (protection, status)
}

#[cfg(test)]
mod tests {
    use virga_crds::RouterSpec;

    use super::*;

    const OVN: Backend = Backend::Ovn { underlay_mtu: 1500 };

    fn told(
        backend: Backend,
        obstacle: Option<&Obstacle>,
        carried: &Carried<Seen>,
        old: Option<RouterStatus>,
    ) -> String {
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
