//! DiskWeigher: free physical disk.
//!
//! Nova: `nova/scheduler/weights/disk.py`, where the scale starts at zero. A positive multiplier spreads, a negative one
//! packs.

use super::Weigher;
use crate::measure::Measure;

/// See the module.
#[derive(Debug)]
pub(super) struct DiskWeigher;

impl Weigher for DiskWeigher {
    fn name(&self) -> &'static str {
        "DiskWeigher"
    }

    fn multiplier_key(&self) -> &'static str {
        "disk_weight_multiplier"
    }

    fn measures_room(&self) -> bool {
        true
    }

    fn floor(&self) -> Option<f64> {
        Some(0.0)
    }

    fn kept(&self) -> Option<Measure> {
        Some(Measure::SpareDisk)
    }
}

#[cfg(test)]
mod tests {
    use crate::Resources;
    use crate::fixtures::chosen;

    const FULLER: Resources = Resources {
        vcpus: 0,
        memory_bytes: 0,
        disk_bytes: 75 << 30,
    };

    #[test]
    fn a_positive_multiplier_prefers_the_emptier_host() {
        assert_eq!(chosen("DiskWeigher", 1.0, &FULLER), [("node-2", 1.0), ("node-1", 0.25)]);
    }

    #[test]
    fn a_negative_multiplier_prefers_the_fuller_host() {
        assert_eq!(
            chosen("DiskWeigher", -2.0, &FULLER),
            [("node-1", -2.0 * 0.25), ("node-2", -2.0)]
        );
    }
}
