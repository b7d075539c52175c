//! HypervisorVersionWeigher: the version of the hypervisor.
//!
//! Nova: `nova/scheduler/weights/hypervisor_version.py`. Hosts that are upgraded already are preferred, so that during a
//! rolling upgrade nothing new lands on those still to be emptied. An unknown version counts as 0.

use super::Weigher;
use crate::measure::Measure;

/// See the module.
#[derive(Debug)]
pub(super) struct HypervisorVersionWeigher;

impl Weigher for HypervisorVersionWeigher {
    fn name(&self) -> &'static str {
        "HypervisorVersionWeigher"
    }

    fn multiplier_key(&self) -> &'static str {
        "hypervisor_version_weight_multiplier"
    }

    fn kept(&self) -> Option<Measure> {
        Some(Measure::Version)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::fixtures::{among, named};
    use crate::{Host, Platform};

    fn version(name: &str, hypervisor_version: u32) -> Host {
        Host {
            platform: Arc::new(Platform {
                hypervisor_version,
                ..Platform::default()
            }),
            ..named(name)
        }
    }

    #[test]
    fn the_newer_version_is_preferred() {
        let hosts = [
            version("node-1", 8_000_000),
            version("node-2", 10_000_000),
            version("node-3", 9_000_000),
        ];
        assert_eq!(
            among("HypervisorVersionWeigher", 1.0, &hosts),
            [("node-2", 1.0), ("node-3", 0.5), ("node-1", 0.0)]
        );
    }

    #[test]
    fn an_unknown_version_is_the_oldest() {
        let hosts = [version("node-1", 0), version("node-2", 8_000_000)];
        assert_eq!(among("HypervisorVersionWeigher", 1.0, &hosts)[0], ("node-2", 1.0));
    }
}
