//! RetryFilter: the host has not rejected this Instance before.
//!
//! Nova: the filter of this name until 2020; now the list of alternates and `ignore_hosts`.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct RetryFilter;

impl Filter for RetryFilter {
    fn name(&self) -> &'static str {
        "RetryFilter"
    }

    fn is_placement(&self) -> bool {
        true
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::NONE
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        !ask.excluded.is_empty()
    }

    #[inline]
    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        if ask.excluded.binary_search(&host.slot()).is_err() {
            Ok(())
        } else {
            Err(Why::PLAIN)
        }
    }

    fn sweep(&self, _hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        for &slot in &ask.excluded {
            left.set(slot, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::Request;
    use crate::fixtures::{host, request, verdict};

    fn rejected_by(hosts: &[&str]) -> Request {
        Request {
            excluded_hosts: hosts.iter().map(ToString::to_string).collect::<BTreeSet<_>>(),
            ..request()
        }
    }

    #[test]
    fn a_host_that_rejected_the_instance_is_not_tried_again() {
        assert_eq!(
            verdict("RetryFilter", host(), &rejected_by(&["node-1", "node-9"])),
            Err("0/1 hosts: 1 RetryFilter".to_owned())
        );
    }

    #[test]
    fn other_hosts_pass() {
        assert_eq!(verdict("RetryFilter", host(), &rejected_by(&["node-9"])), Ok(()));
        assert_eq!(verdict("RetryFilter", host(), &request()), Ok(()));
    }
}
