//! What of a host a filter looks at, so that an event wakes only the requests that it may help.

use std::fmt;
use std::ops::BitOr;

/// A set of the things about a host that can change.
///
/// A filter declares what it [reads](crate::filters::Filter::reads). A request that was refused waits for a change in
/// what the refusing filters read, and for nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Aspects(u16);

impl Aspects {
    /// Nothing: the filter looks at the request and at the host's name only.
    pub const NONE: Self = Self(0);
    /// Whether the host is alive, and whether it takes new Instances.
    pub const LIVENESS: Self = Self(1);
    /// The availability zone.
    pub const ZONE: Self = Self(1 << 1);
    /// Architecture, hypervisor, processor, domain types and address.
    pub const PLATFORM: Self = Self(1 << 2);
    /// Capacity, inventories, reserved amounts, allocation ratios, and what of them is used.
    pub const CAPACITY: Self = Self(1 << 3);
    /// Labels and traits.
    pub const LABELS: Self = Self(1 << 4);
    /// Which members of a ServerGroup are on the host.
    pub const GROUP: Self = Self(1 << 5);
    /// The aggregates that the host is in, and what they say.
    pub const AGGREGATES: Self = Self(1 << 6);
    /// Metrics, operations that run, failed builds.
    pub const LOAD: Self = Self(1 << 7);
    /// How much is given out and how many Instances there are, whatever the size of what comes or goes.
    pub const USAGE: Self = Self(1 << 8);
    /// Where the Instances are that a hint names.
    pub const INSTANCES: Self = Self(1 << 9);

    /// Everything.
    pub const ALL: Self = Self((1 << 10) - 1);

    const NAMES: [(Self, &str); 10] = [
        (Self::LIVENESS, "LIVENESS"),
        (Self::ZONE, "ZONE"),
        (Self::PLATFORM, "PLATFORM"),
        (Self::CAPACITY, "CAPACITY"),
        (Self::LABELS, "LABELS"),
        (Self::GROUP, "GROUP"),
        (Self::AGGREGATES, "AGGREGATES"),
        (Self::LOAD, "LOAD"),
        (Self::USAGE, "USAGE"),
        (Self::INSTANCES, "INSTANCES"),
    ];

    /// Whether the two sets share anything.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether everything is in the set.
    pub const fn is_all(self) -> bool {
        self.0 == Self::ALL.0
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Aspects {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Aspects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(
                Self::NAMES
                    .iter()
                    .filter(|(bit, _)| self.intersects(*bit))
                    .map(|(_, name)| name),
            )
            .finish()
    }
}
