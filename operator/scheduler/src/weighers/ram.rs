//! RAMWeigher: free physical memory.
//!
//! Nova: `nova/scheduler/weights/ram.py`, where the scale starts at zero. A positive multiplier spreads, a negative one
//! packs.

use super::Weigher;
use crate::measure::Measure;

/// See the module.
#[derive(Debug)]
pub(super) struct RAMWeigher;

impl Weigher for RAMWeigher {
    fn name(&self) -> &'static str {
        "RAMWeigher"
    }

    fn multiplier_key(&self) -> &'static str {
        "ram_weight_multiplier"
    }

    fn measures_room(&self) -> bool {
        true
    }

    fn floor(&self) -> Option<f64> {
        Some(0.0)
    }

    fn kept(&self) -> Option<Measure> {
        Some(Measure::SpareMemory)
    }
}

#[cfg(test)]
mod tests {
    use crate::Resources;
    use crate::fixtures::chosen;

    const FULLER: Resources = Resources {
        vcpus: 0,
        memory_bytes: 4 << 30,
        disk_bytes: 0,
    };

    #[test]
    fn a_positive_multiplier_prefers_the_emptier_host() {
        assert_eq!(chosen("RAMWeigher", 1.0, &FULLER), [("node-2", 1.0), ("node-1", 0.75)]);
    }

    #[test]
    fn a_negative_multiplier_prefers_the_fuller_host() {
        assert_eq!(
            chosen("RAMWeigher", -2.0, &FULLER),
            [("node-1", -2.0 * 0.75), ("node-2", -2.0)]
        );
    }
}
