//! AllHostsFilter: every host passes.
//!
//! Nova: `nova/scheduler/filters/all_hosts_filter.py`.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct AllHostsFilter;

impl Filter for AllHostsFilter {
    fn name(&self) -> &'static str {
        "AllHostsFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::NONE
    }

    fn check<'a>(&self, _host: Candidate<'a>, _ask: &Ask<'a>) -> Result<(), Why<'a>> {
        Ok(())
    }

    fn sweep(&self, _hosts: &Hosts, _ask: &Ask<'_>, _left: &mut Bits) {}
}

#[cfg(test)]
mod tests {
    use crate::Host;
    use crate::fixtures::{host, request, verdict};

    #[test]
    fn every_host_passes_even_one_that_is_not_alive() {
        assert_eq!(verdict("AllHostsFilter", host(), &request()), Ok(()));
        let dead = Host { alive: false, ..host() };
        assert_eq!(verdict("AllHostsFilter", dead, &request()), Ok(()));
    }
}
