//! IoOpsWeigher: operations that run on the host or are about to.
//!
//! Nova: `nova/scheduler/weights/io_ops.py`, where the scale starts at zero. The multiplier is -1 unless told: hosts with
//! less to do are preferred. A reservation counts until its Instance is seen there.

use super::Weigher;
use crate::measure::Measure;

/// See the module.
#[derive(Debug)]
pub(super) struct IoOpsWeigher;

impl Weigher for IoOpsWeigher {
    fn name(&self) -> &'static str {
        "IoOpsWeigher"
    }

    fn multiplier_key(&self) -> &'static str {
        "io_ops_weight_multiplier"
    }

    fn default_multiplier(&self) -> f64 {
        -1.0
    }

    fn resists_packing(&self) -> bool {
        true
    }

    fn floor(&self) -> Option<f64> {
        Some(0.0)
    }

    fn kept(&self) -> Option<Measure> {
        Some(Measure::IoOps)
    }
}

#[cfg(test)]
mod tests {
    use crate::Host;
    use crate::fixtures::{among, named};

    fn busy(name: &str, io_ops: u32) -> Host {
        Host { io_ops, ..named(name) }
    }

    #[test]
    fn hosts_with_less_to_do_are_preferred() {
        let hosts = [busy("node-1", 8), busy("node-2", 2), busy("node-3", 4)];
        assert_eq!(
            among("IoOpsWeigher", -1.0, &hosts),
            [("node-2", -0.25), ("node-3", -0.5), ("node-1", -1.0)]
        );
    }

    #[test]
    fn hosts_that_are_equally_busy_are_equal() {
        let hosts = [busy("node-1", 3), busy("node-2", 3)];
        assert!(
            among("IoOpsWeigher", -1.0, &hosts)
                .iter()
                .all(|&(_, weight)| (weight + 1.0).abs() < 1e-12)
        );
    }
}
