//! What is asked of the scheduler.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::{Demands, ImageFacts, Resources, Uid};

/// One Instance that wants a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The Instance's UID. A reservation is held under it.
    pub uid: Uid,
    /// `namespace/name`, for messages.
    pub name: String,
    /// What it takes of a host.
    pub resources: Resources,
    /// The availability zone that it must be in; any when `None`.
    pub zone: Option<String>,
    /// The architecture that its image needs; any when `None`. Taken from the image's `hw_architecture` when that is
    /// there.
    pub architecture: Option<String>,
    /// The project that it belongs to: its namespace. Empty when that is not known.
    pub project: String,
    /// The name of its Flavor. Empty when that is not known.
    pub flavor: String,
    /// The image that it boots from; `None` when it boots from a volume without one.
    pub image: Option<Arc<ImageFacts>>,
    /// The one host that it must go to, if an operator named one (Nova's `host` of a create request). All filters hold
    /// for that host as for any.
    pub forced_host: Option<String>,
    /// Its ServerGroup.
    pub group: Option<Group>,
    /// The only hosts that will do, for example those that hold a volume of it.
    pub only_hosts: Option<OnlyHosts>,
    /// Hosts that have rejected it.
    pub excluded_hosts: BTreeSet<String>,
    /// What few ask for: traits, resource classes, aggregates, capabilities, hints.
    pub demands: Option<Box<Demands>>,
}

/// A restriction to some hosts, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlyHosts {
    /// Names of hosts.
    pub hosts: BTreeSet<String>,
    /// Why, in words for the Instance's owner, such as `volume shop/data is on node-3`.
    pub reason: String,
}

/// The ServerGroup of a request. Which members are on which hosts, the [`Cluster`](crate::Cluster) knows itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The group's UID.
    pub uid: Uid,
    /// What it asks for.
    pub policy: Policy,
}

/// The policy of a server group (Nova's server group API).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// All members on one host.
    Affinity,
    /// At most so many members on a host (Nova's rule `max_server_per_host`, 1 unless told).
    AntiAffinity {
        /// The most members on one host.
        max_per_host: NonZeroU32,
    },
    /// Members together where that is possible.
    SoftAffinity,
    /// Members apart where that is possible.
    SoftAntiAffinity,
}

impl Policy {
    /// One member a host.
    pub const ANTI_AFFINITY: Self = Self::AntiAffinity {
        max_per_host: NonZeroU32::MIN,
    };
}

impl Request {
    /// A request for any host with room.
    pub fn new(uid: impl Into<Uid>, name: impl Into<String>, resources: Resources) -> Self {
        Self {
            uid: uid.into(),
            name: name.into(),
            resources,
            zone: None,
            architecture: None,
            project: String::new(),
            flavor: String::new(),
            image: None,
            forced_host: None,
            group: None,
            only_hosts: None,
            excluded_hosts: BTreeSet::new(),
            demands: None,
        }
    }

    /// What is asked for beyond room, zone and group, made when there is nothing yet.
    pub fn demands_mut(&mut self) -> &mut Demands {
        self.demands.get_or_insert_default()
    }

    /// Whether the request itself allows the host of this name.
    pub(crate) fn allows_host(&self, name: &str) -> bool {
        !self.excluded_hosts.contains(name)
            && self.only_hosts.as_ref().is_none_or(|only| only.hosts.contains(name))
            && self.forced_host.as_ref().is_none_or(|forced| forced == name)
    }
}
