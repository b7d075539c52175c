//! ComputeFilter: the host is alive and takes new Instances.
//!
//! Nova: `nova/scheduler/filters/compute_filter.py`; a disabled service is also kept out by the pre-filter
//! `compute_status_filter`.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate, Scheduling};

/// See the module.
#[derive(Debug)]
pub(super) struct ComputeFilter;

impl Filter for ComputeFilter {
    fn name(&self) -> &'static str {
        "ComputeFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::LIVENESS
    }

    #[inline]
    fn check<'a>(&self, host: Candidate<'a>, _ask: &Ask<'a>) -> Result<(), Why<'a>> {
        if host.is_open() {
            return Ok(());
        }
        Err(match host.host().map(|host| &host.scheduling) {
            Some(Scheduling::Cordoned { reason }) => Why {
                text: "disabled",
                note: reason,
            },
            _ => Why::because("not responding"),
        })
    }

    fn sweep(&self, hosts: &Hosts, _ask: &Ask<'_>, left: &mut Bits) {
        left.keep(hosts.open());
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{host, request, verdict};
    use crate::{Host, Scheduling};

    #[test]
    fn a_host_that_is_alive_and_enabled_passes() {
        assert_eq!(verdict("ComputeFilter", host(), &request()), Ok(()));
    }

    #[test]
    fn a_host_that_is_not_alive_is_rejected() {
        let dead = Host { alive: false, ..host() };
        assert_eq!(
            verdict("ComputeFilter", dead, &request()),
            Err("0/1 hosts: 1 ComputeFilter (not responding)".to_owned())
        );
    }

    #[test]
    fn a_cordoned_host_is_rejected_as_disabled_dead_or_alive() {
        for alive in [true, false] {
            let cordoned = Host {
                alive,
                scheduling: Scheduling::Cordoned {
                    reason: "new disks".to_owned(),
                },
                ..host()
            };
            assert_eq!(
                verdict("ComputeFilter", cordoned, &request()),
                Err("0/1 hosts: 1 ComputeFilter (disabled)".to_owned())
            );
        }
    }
}
