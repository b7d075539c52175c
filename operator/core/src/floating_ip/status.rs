use jiff::Timestamp;
use virga_crds::{FloatingIP, FloatingIPStatus, conditions::Reason};

use crate::{
    carried::{Carried, Obstacle, Standing},
    condition::Progress,
    network::Backend,
    protection::{Protection, protection},
};

/// What became of a FloatingIP in the back end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The address that it has.
    pub address: Option<String>,
    /// The guest's address that it leads to.
    pub fixed: Option<String>,
    /// The guest's Port.
    pub port: Option<String>,
    /// The Router that does it.
    pub router: Option<String>,
    /// The first thing that is not as its spec says.
    pub problem: Option<Obstacle>,
}

/// What to do about a FloatingIP. `obstacle` is what keeps it from having its address.
pub fn plan(
    floating: &FloatingIP,
    backend: Backend,
    obstacle: Option<&Obstacle>,
    carried: &Carried<Seen>,
    now: Timestamp,
) -> (Protection, FloatingIPStatus) {
    let protection = protection(&floating.metadata, [].into_iter());
    let old = floating.status.clone().unwrap_or_default();
    let standing = Standing {
        backend,
        kind: "floating IPs",
        obstacle,
        carried,
        problem: |seen| seen.problem.as_ref(),
    };
    let said = (old.observed_generation, old.conditions.as_slice());
    let conditions = standing.conditions(&floating.metadata, said, now, || {
        let spec = &floating.spec;
        let leads = spec.port.is_some()
            || spec.instance.is_some()
            || spec.load_balancer.is_some()
            || !spec.port_forwardings.is_empty();
        let (reason, message) = if leads {
            (Reason::AsSpecified, "leads where its spec says")
        } else {
            (
                Reason::Available,
                "kept, and leads nowhere: name a port, an instance or a loadBalancer",
            )
        };
        (Progress::Done, reason, message.into())
    });
    let mut status = FloatingIPStatus {
        observed_generation: floating.metadata.generation,
        conditions,
        ..old
    };
    if let Some(seen) = carried.seen() {
        // An address is for life: what was said of it once holds when it can't be seen for a moment.
        status.address = seen.address.clone().or(status.address);
        status.fixed_address.clone_from(&seen.fixed);
        status.port.clone_from(&seen.port);
        status.router.clone_from(&seen.router);
    }
    (protection, status)
}

#[cfg(test)]
mod tests {
    use virga_crds::FloatingIPSpec;

    use super::*;

    const OVN: Backend = Backend::Ovn { underlay_mtu: 1500 };

    #[test]
    fn one_that_leads_nowhere_is_ready_and_keeps_its_address_when_nobody_sees_it() {
        let mut floating = FloatingIP::new("web", FloatingIPSpec::default());
        let seen = Carried::Seen(Seen {
            address: Some("10.200.0.5".into()),
            ..Seen::default()
        });
        let now = Timestamp::UNIX_EPOCH;
        let status = plan(&floating, OVN, None, &seen, now).1;
        assert_eq!(status.conditions[0].reason, "Available");
        floating.status = Some(status);
        let gone = Carried::Seen(Seen {
            problem: Some(Obstacle {
                reason: Reason::WaitingForAddress,
                message: "x".into(),
            }),
            ..Seen::default()
        });
        let status = plan(&floating, OVN, None, &gone, now).1;
        assert_eq!(status.address.as_deref(), Some("10.200.0.5"));
        assert_eq!(status.conditions[0].reason, "WaitingForAddress");
        let none = plan(&floating, Backend::Libvirt, None, &Carried::Unknown, now).1;
        assert_eq!(none.conditions[0].reason, "NotSupported");
    }
}
