//! CPUWeigher: virtual processors that may still be given out.
//!
//! Nova: `nova/scheduler/weights/cpu.py`, where the scale starts at zero. A positive multiplier spreads, a negative one
//! packs.

use super::Weigher;
use crate::measure::Measure;

/// See the module.
#[derive(Debug)]
pub(super) struct CPUWeigher;

impl Weigher for CPUWeigher {
    fn name(&self) -> &'static str {
        "CPUWeigher"
    }

    fn multiplier_key(&self) -> &'static str {
        "cpu_weight_multiplier"
    }

    fn measures_room(&self) -> bool {
        true
    }

    fn floor(&self) -> Option<f64> {
        Some(0.0)
    }

    fn kept(&self) -> Option<Measure> {
        Some(Measure::SpareVcpus)
    }
}

#[cfg(test)]
mod tests {
    use crate::Resources;
    use crate::fixtures::chosen;

    const FULLER: Resources = Resources {
        vcpus: 16,
        memory_bytes: 0,
        disk_bytes: 0,
    };

    #[test]
    fn a_positive_multiplier_prefers_the_emptier_host() {
        assert_eq!(chosen("CPUWeigher", 1.0, &FULLER), [("node-2", 1.0), ("node-1", 0.5)]);
    }

    #[test]
    fn a_negative_multiplier_prefers_the_fuller_host() {
        assert_eq!(
            chosen("CPUWeigher", -2.0, &FULLER),
            [("node-1", -2.0 * 0.5), ("node-2", -2.0)]
        );
    }
}
