//! NumInstancesWeigher: Instances on the host, stopped ones and reservations too.
//!
//! Nova: `nova/scheduler/weights/num_instances.py`. The multiplier is 0 unless told; a negative one spreads, a positive one
//! packs.

use super::Weigher;
use crate::measure::Measure;

/// See the module.
#[derive(Debug)]
pub(super) struct NumInstancesWeigher;

impl Weigher for NumInstancesWeigher {
    fn name(&self) -> &'static str {
        "NumInstancesWeigher"
    }

    fn multiplier_key(&self) -> &'static str {
        "num_instances_weight_multiplier"
    }

    fn default_multiplier(&self) -> f64 {
        0.0
    }

    fn kept(&self) -> Option<Measure> {
        Some(Measure::Instances)
    }
}

#[cfg(test)]
mod tests {
    use crate::Resources;
    use crate::fixtures::chosen;

    #[test]
    fn a_negative_multiplier_prefers_the_host_with_fewer_instances() {
        let nothing = Resources::default();
        assert_eq!(
            chosen("NumInstancesWeigher", -1.0, &nothing),
            [("node-2", -0.0), ("node-1", -1.0)]
        );
        assert_eq!(
            chosen("NumInstancesWeigher", 1.0, &nothing),
            [("node-1", 1.0), ("node-2", 0.0)]
        );
    }

    #[test]
    fn by_default_it_weighs_nothing() {
        assert!(
            chosen("NumInstancesWeigher", 0.0, &Resources::default())
                .iter()
                .all(|&(_, weight)| weight == 0.0)
        );
    }
}
