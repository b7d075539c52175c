//! MetricsWeigher: the sum of the host's metrics, each times its weight in the profile's options.
//!
//! Nova: `nova/scheduler/weights/metrics.py` with `[metrics]weight_setting`. A host that lacks one of them measures
//! `weightOfUnavailable`. Where metrics are required Nova fails the whole request; here MetricsFilter rejects such hosts.

use super::Weigher;
use crate::Ask;
use crate::measure::Measure;
/// See the module.
#[derive(Debug)]
pub(super) struct MetricsWeigher;

impl Weigher for MetricsWeigher {
    fn name(&self) -> &'static str {
        "MetricsWeigher"
    }

    fn multiplier_key(&self) -> &'static str {
        "metrics_weight_multiplier"
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        !ask.options.metrics.weights.is_empty()
    }

    fn kept(&self) -> Option<Measure> {
        Some(Measure::Metrics)
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{among_with, named};
    use crate::{Host, Options};

    fn measured(name: &str, metrics: &[(&str, f64)]) -> Host {
        Host {
            metrics: metrics.iter().map(|&(name, value)| (name.to_owned(), value)).collect(),
            ..named(name)
        }
    }

    fn options(weights: &[(&str, f64)]) -> Options {
        let mut options = Options::default();
        options.metrics.required = false;
        options.metrics.weights = weights.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        options
    }

    #[test]
    fn metrics_are_weighed_together() {
        let hosts = [
            measured("node-1", &[("cpu.percent", 80.0), ("net", 1.0)]),
            measured("node-2", &[("cpu.percent", 20.0), ("net", 1.0)]),
            measured("node-3", &[("cpu.percent", 20.0), ("net", 31.0)]),
        ];
        // -78, -18 and 42.
        assert_eq!(
            among_with(
                &options(&[("cpu.percent", -1.0), ("net", 2.0)]),
                "MetricsWeigher",
                2.0,
                &hosts
            ),
            [("node-3", 2.0), ("node-2", 1.0), ("node-1", 0.0)]
        );
    }

    #[test]
    fn a_host_without_the_metric_comes_last() {
        let hosts = [measured("node-1", &[]), measured("node-2", &[("cpu.percent", 99.0)])];
        assert_eq!(
            among_with(&options(&[("cpu.percent", -1.0)]), "MetricsWeigher", 1.0, &hosts),
            [("node-2", 1.0), ("node-1", 0.0)]
        );
    }

    #[test]
    fn without_a_setting_it_weighs_nothing() {
        let hosts = [measured("node-1", &[]), measured("node-2", &[("cpu.percent", 99.0)])];
        let weights = among_with(&options(&[]), "MetricsWeigher", 1.0, &hosts);
        assert!(weights.iter().all(|&(_, weight)| weight == 0.0));
    }
}
