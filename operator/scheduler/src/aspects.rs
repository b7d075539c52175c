//! What of a host a filter looks at, so that an event wakes only the requests that it may help.

use std::fmt;
use std::ops::BitOr;

/// A set of the things about a host that can change.
///
/// A filter declares what it [reads](crate::filters::Filter::reads). A request that was refused waits for a change in
/// what the refusing filters read, and for nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Aspects(u8);

impl Aspects {
    /// Nothing: the filter looks at the request and at the host's name only.
    pub const NONE: Self = Self(0);
    /// Whether the host is alive, and whether it takes new Instances.
    pub const LIVENESS: Self = Self(1);
    /// The availability zone.
    pub const ZONE: Self = Self(1 << 1);
    /// The processor architecture.
    pub const ARCHITECTURE: Self = Self(1 << 2);
    /// Capacity, reserved amounts, allocation ratios and usage.
    pub const CAPACITY: Self = Self(1 << 3);
    /// Labels, traits and domain types.
    pub const LABELS: Self = Self(1 << 4);
    /// Which members of a ServerGroup are on the host.
    pub const GROUP: Self = Self(1 << 5);

    const NAMES: [(Self, &str); 6] = [
        (Self::LIVENESS, "LIVENESS"),
        (Self::ZONE, "ZONE"),
        (Self::ARCHITECTURE, "ARCHITECTURE"),
        (Self::CAPACITY, "CAPACITY"),
        (Self::LABELS, "LABELS"),
        (Self::GROUP, "GROUP"),
    ];

    /// Whether the two sets share anything.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
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
