//! How much of the host may be promised, and does one more fit? Pure.

use std::fmt::Write as _;

use jiff::Timestamp;
use virga_core::instance::Room;
use virga_crds::{Bytes, HypervisorSpec, Resources};
use virga_scheduler::{Ratio, Ratios};

/// What is kept for the host when its Hypervisor doesn't say (Nova's `reserved_host_memory_mb`).
const RESERVED_MEMORY: Bytes = Bytes::mib(512);

/// What the host has, and how far it may be promised.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// What the host has.
    pub capacity: Resources,
    /// What is kept for itself.
    pub reserved: Resources,
    /// How often the rest may be promised.
    pub ratios: Ratios,
}

/// What an Instance on this host was promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Something of it exists here: it counts before those that only wait.
    pub built: bool,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Its uid.
    pub uid: String,
    /// How much.
    pub resources: Resources,
}

impl Offer {
    /// The offer of a host whose Hypervisor has this spec.
    pub fn new(capacity: Resources, spec: &HypervisorSpec, defaults: Ratios) -> Self {
        let reserved = spec.reserved.clone().unwrap_or_default();
        Self {
            capacity,
            reserved: Resources {
                vcpus: reserved.vcpus,
                memory: reserved.memory.unwrap_or(RESERVED_MEMORY),
                disk: reserved.disk,
            },
            ratios: ratios(spec, defaults),
        }
    }

    /// Whether `mine` fits beside those of the others that come before it: the built ones, and those that were created
    /// earlier. So of two that don't fit together, the later one goes, whichever is looked at first.
    pub fn room(&self, mine: &Promise, others: &[Promise]) -> Room {
        let before = others
            .iter()
            .filter(|other| other.uid != mine.uid)
            .filter(|other| other.built || (other.created, &other.uid) < (mine.created, &mine.uid));
        let mut taken = Resources::default();
        for other in before {
            taken = sum(taken, other.resources);
        }
        let mut short = String::new();
        let mut check =
            |name: &str, ratio: Ratio, has: u64, kept: u64, taken: u64, asked: u64, show: fn(u64) -> String| {
                let left = ratio.of(has.saturating_sub(kept)).saturating_sub(taken);
                if asked > left {
                    let separator = if short.is_empty() { "" } else { "; " };
                    // Writing to a String cannot fail.
                    let _ = write!(
                        short,
                        "{separator}{name}: {} asked for, {} left",
                        show(asked),
                        show(left)
                    );
                }
            };
        let (has, kept, asked) = (self.capacity, self.reserved, mine.resources);
        let plain = |n: u64| n.to_string();
        let bytes = |n: u64| Bytes(n).to_string();
        check(
            "vcpus",
            self.ratios.vcpus,
            has.vcpus.into(),
            kept.vcpus.into(),
            taken.vcpus.into(),
            asked.vcpus.into(),
            plain,
        );
        check(
            "memory",
            self.ratios.memory,
            has.memory.0,
            kept.memory.0,
            taken.memory.0,
            asked.memory.0,
            bytes,
        );
        check(
            "disk",
            self.ratios.disk,
            has.disk.0,
            kept.disk.0,
            taken.disk.0,
            asked.disk.0,
            bytes,
        );
        if short.is_empty() {
            Room::Enough
        } else {
            Room::Short(short)
        }
    }
}

/// Of each the larger one.
pub fn largest(a: Resources, b: Resources) -> Resources {
    Resources {
        vcpus: a.vcpus.max(b.vcpus),
        memory: a.memory.max(b.memory),
        disk: a.disk.max(b.disk),
    }
}

/// Both together.
pub fn sum(a: Resources, b: Resources) -> Resources {
    Resources {
        vcpus: a.vcpus.saturating_add(b.vcpus),
        memory: Bytes(a.memory.0.saturating_add(b.memory.0)),
        disk: Bytes(a.disk.0.saturating_add(b.disk.0)),
    }
}

/// The ratios of a spec, with the defaults for those that it leaves out or that can't be read.
pub fn ratios(spec: &HypervisorSpec, defaults: Ratios) -> Ratios {
    let Some(spec) = &spec.allocation_ratios else {
        return defaults;
    };
    let read = |text: &Option<String>, default: Ratio| {
        let ratio = text.as_ref().and_then(|text| text.parse().ok());
        ratio.unwrap_or(default)
    };
    Ratios {
        vcpus: read(&spec.vcpus, defaults.vcpus),
        memory: read(&spec.memory, defaults.memory),
        disk: read(&spec.disk, defaults.disk),
    }
}

#[cfg(test)]
mod tests {
    use virga_crds::AllocationRatios;

    use super::*;

    fn promise(uid: &str, second: i64, built: bool, memory: Bytes) -> Promise {
        Promise {
            built,
            created: Timestamp::from_second(second).ok(),
            uid: uid.into(),
            resources: Resources {
                vcpus: 1,
                memory,
                disk: Bytes::gib(1),
            },
        }
    }

    fn offer() -> Offer {
        let capacity = Resources {
            vcpus: 2,
            memory: Bytes::gib(4),
            disk: Bytes::gib(100),
        };
        Offer::new(capacity, &HypervisorSpec::default(), Ratios::default())
    }

    #[test]
    fn of_two_that_do_not_fit_together_the_later_one_goes() {
        let (first, second) = (
            promise("b", 10, false, Bytes::gib(2)),
            promise("a", 20, false, Bytes::gib(2)),
        );
        let both = [first.clone(), second.clone()];
        assert_eq!(offer().room(&first, &both), Room::Enough);
        let Room::Short(why) = offer().room(&second, &both) else {
            panic!("both fit");
        };
        assert_eq!(why, "memory: 2Gi asked for, 1536Mi left");
    }

    #[test]
    fn what_exists_already_comes_before_what_is_older() {
        let (older, built) = (
            promise("a", 10, false, Bytes::gib(2)),
            promise("b", 20, true, Bytes::gib(2)),
        );
        assert!(matches!(offer().room(&older, &[older.clone(), built]), Room::Short(_)));
    }

    #[test]
    fn cpus_are_promised_four_times_over_unless_the_hypervisor_says_otherwise() {
        let mine = Promise {
            resources: Resources {
                vcpus: 8,
                ..Resources::default()
            },
            ..promise("a", 1, false, Bytes::ZERO)
        };
        assert_eq!(offer().room(&mine, &[]), Room::Enough);
        let spec = HypervisorSpec {
            allocation_ratios: Some(AllocationRatios {
                vcpus: Some("1.5".into()),
                ..AllocationRatios::default()
            }),
            ..HypervisorSpec::default()
        };
        let strict = Offer::new(offer().capacity, &spec, Ratios::default());
        assert_eq!(
            strict.room(&mine, &[]),
            Room::Short("vcpus: 8 asked for, 3 left".into())
        );
    }
}
