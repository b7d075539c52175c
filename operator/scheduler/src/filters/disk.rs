//! DiskFilter: the host has local disk left for the Instance.
//!
//! `(capacity − reserved) × ratio ≥ used + asked`, and `asked ≤ capacity`: one Instance is never larger than the
//! physical host, whatever the ratio. Who asks for nothing is not held up by a host that is over its limit.
//!
//! Nova: the filter of this name until 2019; now Placement's inventory of DISK_GB with `reserved`, `allocation_ratio` and
//! `max_unit`.

use super::{Filter, LARGER_THAN_HOST, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct DiskFilter;

impl Filter for DiskFilter {
    fn name(&self) -> &'static str {
        "DiskFilter"
    }

    fn is_placement(&self) -> bool {
        true
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::CAPACITY
    }

    #[inline]
    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let asked = ask.request.resources.disk_bytes;
        if asked <= host.room().disk_bytes {
            return Ok(());
        }
        Err(if host.host().is_some_and(|host| asked > host.capacity.disk_bytes) {
            LARGER_THAN_HOST
        } else {
            Why::PLAIN
        })
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        hosts.room_disk().keep_at_least(left, ask.request.resources.disk_bytes);
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{GIB, host, request, verdict_beside};
    use crate::{Host, Request, Resources};

    fn disk(disk_bytes: u64) -> Request {
        Request {
            resources: Resources {
                disk_bytes,
                ..Resources::default()
            },
            ..request()
        }
    }

    fn verdict(used: u64, asked: u64) -> Result<(), String> {
        let host = Host {
            reserved: disk(20 * GIB).resources,
            ..host()
        };
        verdict_beside("DiskFilter", host, &disk(used).resources, &disk(asked))
    }

    #[test]
    fn disk_is_given_out_but_for_what_is_reserved() {
        assert_eq!(verdict(50 * GIB, 30 * GIB), Ok(()));
        assert_eq!(
            verdict(50 * GIB, 30 * GIB + 1),
            Err("0/1 hosts: 1 DiskFilter".to_owned())
        );
    }

    #[test]
    fn one_disk_is_never_larger_than_the_host() {
        assert_eq!(
            verdict(0, 101 * GIB),
            Err("0/1 hosts: 1 DiskFilter (larger than the host)".to_owned())
        );
    }

    #[test]
    fn an_instance_that_boots_from_a_volume_fits_a_host_with_a_full_disk() {
        assert_eq!(verdict(90 * GIB, 0), Ok(()));
    }
}
