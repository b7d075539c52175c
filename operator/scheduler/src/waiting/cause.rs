//! Why a request waits, and which events may help it.

use std::collections::BTreeSet;

use crate::{Aspects, Event, Refusal, Request, Resources, Uid};

/// Why a request waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No host passed the filters. Made by [`Cause::refused`].
    Refused {
        /// What the rejecting filters read.
        reads: Aspects,
        /// What was asked for.
        resources: Resources,
        /// The group, where a filter about groups rejected a host.
        group: Option<Uid>,
        /// The Instances of hints, where a filter about them rejected a host.
        instances: BTreeSet<Uid>,
    },
    /// Something that the request names does not exist, such as `Flavor/m1.small`: whatever text
    /// [`Event::Appeared`] will carry.
    Missing(String),
    /// Something went wrong that has nothing to do with hosts, such as a conflict on a write: tried again after a rest,
    /// without an event.
    Transient,
}

impl Cause {
    /// The cause after a refusal by [`Cluster::schedule`](crate::Cluster::schedule).
    pub fn refused(request: &Request, refusal: &Refusal) -> Self {
        let group = request
            .group
            .as_ref()
            .filter(|_| refusal.reads.intersects(Aspects::GROUP));
        let hints = request.demands.as_ref().map(|demands| &demands.hints);
        let hints = hints.filter(|_| refusal.reads.intersects(Aspects::INSTANCES));
        let instances = hints.map(|hints| hints.different_host.union(&hints.same_host).cloned().collect());
        Self::Refused {
            reads: refusal.reads,
            resources: request.resources,
            group: group.map(|group| group.uid.clone()),
            instances: instances.unwrap_or_default(),
        }
    }

    /// Whether an event may let a request with this cause through.
    pub(super) fn may_end_by(&self, event: &Event) -> bool {
        match (self, event) {
            (Self::Transient, _) => false,
            (_, Event::Resync) | (Self::Refused { .. }, Event::HostAdded) => true,
            (Self::Missing(wanted), Event::Appeared(what)) => wanted == what,
            (Self::Missing(_), _) | (Self::Refused { .. }, Event::Appeared(_)) => false,
            (Self::Refused { reads, .. }, Event::HostChanged(changed)) => reads.intersects(*changed),
            (Self::Refused { reads, resources, .. }, Event::HostFreed { room }) => {
                reads.intersects(Aspects::USAGE) || reads.intersects(Aspects::CAPACITY) && resources.fits_in(room)
            }
            // Who reads everything may want a fuller host as well as an emptier one.
            (Self::Refused { reads, instances, .. }, Event::InstanceMoved(moved)) => {
                reads.is_all() || instances.contains(moved)
            }
            (Self::Refused { group, .. }, Event::GroupChanged(changed)) => group.as_ref() == Some(changed),
        }
    }
}
