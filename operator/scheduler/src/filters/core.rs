//! CoreFilter: the host has virtual processors left for the Instance.
//!
//! `(capacity − reserved) × ratio ≥ used + asked`, and `asked ≤ capacity`: one Instance is never larger than the
//! physical host, whatever the ratio. Who asks for nothing is not held up by a host that is over its limit.
//!
//! Nova: the filter of this name until 2019; now Placement's inventory of VCPU with `reserved`, `allocation_ratio` and
//! `max_unit`.

use super::{Filter, LARGER_THAN_HOST, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct CoreFilter;

impl Filter for CoreFilter {
    fn name(&self) -> &'static str {
        "CoreFilter"
    }

    fn is_placement(&self) -> bool {
        true
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::CAPACITY
    }

    #[inline]
    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let asked = ask.request.resources.vcpus;
        if asked <= host.room().vcpus {
            return Ok(());
        }
        Err(if host.host().is_some_and(|host| asked > host.capacity.vcpus) {
            LARGER_THAN_HOST
        } else {
            Why::PLAIN
        })
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        hosts
            .room_vcpus()
            .keep_at_least(left, u64::from(ask.request.resources.vcpus));
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{host, request, verdict_beside};
    use crate::{Host, Ratios, Request, Resources};

    fn cores(vcpus: u32) -> Request {
        Request {
            resources: Resources {
                vcpus,
                ..Resources::default()
            },
            ..request()
        }
    }

    fn verdict(used: u32, asked: u32) -> Result<(), String> {
        // 8 threads, 1 kept back, given out 1.5 times: 10.5, so 10.
        let ratios = Ratios {
            vcpus: "1.5".parse().unwrap(),
            ..Ratios::default()
        };
        let host = Host {
            reserved: Resources {
                vcpus: 1,
                ..Resources::default()
            },
            ratios,
            ..host()
        };
        verdict_beside("CoreFilter", host, &cores(used).resources, &cores(asked))
    }

    #[test]
    fn cores_are_given_out_up_to_the_ratio_and_no_further() {
        assert_eq!(verdict(2, 8), Ok(()));
        assert_eq!(verdict(3, 7), Ok(()));
        assert_eq!(verdict(3, 8), Err("0/1 hosts: 1 CoreFilter".to_owned()));
    }

    #[test]
    fn one_instance_is_never_larger_than_the_host() {
        assert_eq!(verdict(0, 8), Ok(()));
        assert_eq!(
            verdict(0, 9),
            Err("0/1 hosts: 1 CoreFilter (larger than the host)".to_owned())
        );
    }

    #[test]
    fn who_asks_for_no_cores_fits_a_host_that_is_over_its_limit() {
        assert_eq!(verdict(40, 0), Ok(()));
    }
}
