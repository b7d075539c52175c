//! MetricsFilter: the host reports every metric that the profile's options weigh.
//!
//! Nova: `nova/scheduler/filters/metrics_filter.py` with `[metrics]weight_setting`.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct MetricsFilter;

impl Filter for MetricsFilter {
    fn name(&self) -> &'static str {
        "MetricsFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::LOAD
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        !ask.options.metrics.weights.is_empty()
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let Some(facts) = host.host() else { return Ok(()) };
        let mut wanted = ask.options.metrics.weights.keys();
        match wanted.find(|name| !facts.metrics.contains_key(*name)) {
            Some(_) => Err(Why::PLAIN),
            None => Ok(()),
        }
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        for name in ask.options.metrics.weights.keys() {
            match hosts.with_metric(name) {
                Some(reporting) => left.keep(reporting),
                None => left.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{ask, host, only_with, request};
    use crate::{Host, Options};

    const NAME: &str = "MetricsFilter";

    fn judge(weighed: &[&str], reported: &[(&str, f64)]) -> Result<(), String> {
        let mut options = Options::default();
        options.metrics.weights = weighed.iter().map(|&name| (name.to_owned(), 1.0)).collect();
        let mut cluster = only_with(&options, NAME);
        cluster.upsert_host(Host {
            metrics: reported.iter().map(|&(name, value)| (name.to_owned(), value)).collect(),
            ..host()
        });
        ask(&cluster, &request())
    }

    #[test]
    fn a_host_that_reports_all_passes() {
        assert_eq!(judge(&["a", "b"], &[("a", 1.0), ("b", 0.0), ("c", 7.0)]), Ok(()));
        assert_eq!(judge(&[], &[]), Ok(()));
    }

    #[test]
    fn a_host_that_lacks_one_is_rejected() {
        assert_eq!(judge(&["a", "b"], &[("a", 1.0)]), Err(format!("0/1 hosts: 1 {NAME}")));
        assert!(judge(&["a"], &[]).is_err());
    }

    #[test]
    fn a_value_that_is_no_number_is_not_reported() {
        assert!(judge(&["a"], &[("a", f64::NAN)]).is_err());
    }
}
