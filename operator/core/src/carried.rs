//! What does the back end say of an object, and what is `Ready` then?

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use virga_crds::{Condition, conditions::Reason};

use crate::{
    condition::{Conditions, Progress},
    network::Backend,
};

/// What is said of an object that was never carried, as long as nobody has looked.
const BEING_WRITTEN: (Reason, &str) = (Reason::Building, "being written to OVN");

/// Something in an object's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// For a condition.
    pub reason: Reason,
    /// The same in words, with the cure.
    pub message: String,
}

impl Obstacle {
    /// Whether it goes on by itself, or somebody has to write another spec.
    fn progress(&self) -> Progress {
        match self.reason {
            Reason::Invalid | Reason::AddressInUse | Reason::AddressInvalid | Reason::NotSupported => Progress::Stuck,
            _ => Progress::Working,
        }
    }
}

/// What the back end says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried<S> {
    /// This became of it.
    Seen(S),
    /// Nobody has looked yet since this process leads: what was said before holds.
    Unknown,
    /// It can't be told.
    No(Obstacle),
}

impl<S: Default> Default for Carried<S> {
    fn default() -> Self {
        Self::Seen(S::default())
    }
}

impl<S> Carried<S> {
    /// What became of it, if that is known.
    pub fn seen(&self) -> Option<&S> {
        match self {
            Self::Seen(seen) => Some(seen),
            Self::Unknown | Self::No(_) => None,
        }
    }
}

impl Carried<Option<Obstacle>> {
    /// What keeps it from being `Ready`, which it was before or not.
    pub(crate) fn in_the_way(&self, was_ready: bool) -> Option<(Reason, &str)> {
        let obstacle = match self {
            Self::Seen(obstacle) => obstacle.as_ref(),
            Self::No(obstacle) => Some(obstacle),
            Self::Unknown if was_ready => None,
            Self::Unknown => return Some(BEING_WRITTEN),
        };
        obstacle.map(|obstacle| (obstacle.reason, obstacle.message.as_str()))
    }
}

/// What is known of an object that has addresses of its own and is OVN's to carry: a Router, a `FloatingIP`, a
/// `LoadBalancer`.
pub(crate) struct Standing<'a, S> {
    pub backend: Backend,
    /// What libvirt's networks have none of.
    pub kind: &'static str,
    /// What keeps it from having its addresses.
    pub obstacle: Option<&'a Obstacle>,
    pub carried: &'a Carried<S>,
    /// The first thing of what was seen that is not as the spec says.
    pub problem: fn(&S) -> Option<&Obstacle>,
}

impl<S> Standing<'_, S> {
    /// The conditions of an object of which this generation and these conditions were said; `done` is what is to be said of
    /// one with nothing in its way.
    pub fn conditions(
        &self,
        meta: &ObjectMeta,
        (observed, old): (Option<i64>, &[Condition]),
        now: Timestamp,
        done: impl FnOnce() -> (Progress, Reason, String),
    ) -> Vec<Condition> {
        let mut conditions = Conditions::new(old, meta.generation, now);
        let in_the_way = match self.carried {
            Carried::No(down) => Some(down),
            Carried::Seen(seen) => self.obstacle.or_else(|| (self.problem)(seen)),
            Carried::Unknown => self.obstacle,
        };
        if self.backend == Backend::Libvirt {
            let kind = self.kind;
            let message = format!("libvirt's networks have no {kind}: have the operator install Virga with OVN");
            conditions.set_ready(Progress::Stuck, Reason::NotSupported, message);
        } else if let Some(obstacle) = in_the_way {
            conditions.set_ready(obstacle.progress(), obstacle.reason, &obstacle.message);
        } else if self.carried.seen().is_none() && !conditions.was_ready(observed) {
            let (reason, message) = BEING_WRITTEN;
            conditions.set_ready(Progress::Working, reason, message);
        } else {
            let (progress, reason, message) = done();
            conditions.set_ready(progress, reason, message);
        }
        conditions.into_vec()
    }
}
