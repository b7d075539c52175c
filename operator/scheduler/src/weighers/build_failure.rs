//! BuildFailureWeigher: builds that failed on the host in a row.
//!
//! Nova: `nova/scheduler/weights/compute.py`. The multiplier of a million is turned to minus a million, so that a host on
//! which builds fail is chosen only when there is no other.

use super::Weigher;
use crate::measure::Measure;

/// See the module.
#[derive(Debug)]
pub(super) struct BuildFailureWeigher;

impl Weigher for BuildFailureWeigher {
    fn name(&self) -> &'static str {
        "BuildFailureWeigher"
    }

    fn multiplier_key(&self) -> &'static str {
        "build_failure_weight_multiplier"
    }

    fn default_multiplier(&self) -> f64 {
        1_000_000.0
    }

    fn sign(&self) -> f64 {
        -1.0
    }

    fn kept(&self) -> Option<Measure> {
        Some(Measure::FailedBuilds)
    }
}

#[cfg(test)]
mod tests {
    use crate::Host;
    use crate::fixtures::{among, named};

    fn failing(name: &str, failed_builds: u32) -> Host {
        Host {
            failed_builds,
            ..named(name)
        }
    }

    #[test]
    fn a_host_on_which_builds_fail_comes_last() {
        let hosts = [failing("node-1", 4), failing("node-2", 0), failing("node-3", 1)];
        assert_eq!(
            among("BuildFailureWeigher", 1e6, &hosts),
            [("node-2", -0.0), ("node-3", -250_000.0), ("node-1", -1e6)]
        );
    }

    #[test]
    fn where_builds_fail_everywhere_alike_nothing_is_weighed() {
        let hosts = [failing("node-1", 2), failing("node-2", 2)];
        assert!(
            among("BuildFailureWeigher", 1e6, &hosts)
                .iter()
                .all(|&(_, weight)| weight == 0.0)
        );
    }
}
