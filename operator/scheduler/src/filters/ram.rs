//! RamFilter: the host has memory left for the Instance.
//!
//! `(capacity − reserved) × ratio ≥ used + asked`, and `asked ≤ capacity`: one Instance is never larger than the
//! physical host, whatever the ratio. Who asks for nothing is not held up by a host that is over its limit.
//!
//! Nova: the filter of this name until 2019; now Placement's inventory of MEMORY_MB with `reserved`, `allocation_ratio` and
//! `max_unit`.

use super::{Filter, LARGER_THAN_HOST, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct RamFilter;

impl Filter for RamFilter {
    fn name(&self) -> &'static str {
        "RamFilter"
    }

    fn is_placement(&self) -> bool {
        true
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::CAPACITY
    }

    #[inline]
    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let asked = ask.request.resources.memory_bytes;
        if asked <= host.room().memory_bytes {
            return Ok(());
        }
        Err(if host.host().is_some_and(|host| asked > host.capacity.memory_bytes) {
            LARGER_THAN_HOST
        } else {
            Why::PLAIN
        })
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        hosts
            .room_memory()
            .keep_at_least(left, ask.request.resources.memory_bytes);
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{GIB, host, request, verdict_beside};
    use crate::{Host, Ratios, Request, Resources};

    fn memory(memory_bytes: u64) -> Request {
        Request {
            resources: Resources {
                memory_bytes,
                ..Resources::default()
            },
            ..request()
        }
    }

    fn verdict(ratio: &str, used: u64, asked: u64) -> Result<(), String> {
        let ratios = Ratios {
            memory: ratio.parse().unwrap(),
            ..Ratios::default()
        };
        let host = Host {
            reserved: memory(GIB / 2).resources,
            ratios,
            ..host()
        };
        verdict_beside("RamFilter", host, &memory(used).resources, &memory(asked))
    }

    #[test]
    fn memory_is_given_out_to_the_last_byte() {
        let limit = 16 * GIB - GIB / 2;
        assert_eq!(verdict("1", 8 * GIB, limit - 8 * GIB), Ok(()));
        assert_eq!(
            verdict("1", 8 * GIB, limit - 8 * GIB + 1),
            Err("0/1 hosts: 1 RamFilter".to_owned())
        );
    }

    #[test]
    fn a_ratio_below_one_holds_memory_back() {
        assert_eq!(verdict("0.5", 0, 7 * GIB + GIB / 2 + GIB / 4), Ok(()));
        assert_eq!(verdict("0.5", 0, 8 * GIB), Err("0/1 hosts: 1 RamFilter".to_owned()));
    }

    #[test]
    fn overcommit_does_not_make_one_instance_larger_than_the_host() {
        assert_eq!(verdict("2", 8 * GIB, 16 * GIB), Ok(()));
        assert_eq!(
            verdict("2", 0, 16 * GIB + 1),
            Err("0/1 hosts: 1 RamFilter (larger than the host)".to_owned())
        );
    }

    #[test]
    fn absurd_amounts_do_not_wrap_around() {
        assert!(verdict("10000", u64::MAX, u64::MAX).is_err());
        assert!(verdict("1", u64::MAX, 1).is_err());
    }
}
