//! ServerGroupAffinityFilter: the host holds members of the group, or no host does yet.
//!
//! Nova: `nova/scheduler/filters/affinity_filter.py`. A host that is gone but still has members keeps new ones away from
//! other hosts, as in Nova: the members may come back.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate, Policy};

/// See the module.
#[derive(Debug)]
pub(super) struct ServerGroupAffinityFilter;

impl Filter for ServerGroupAffinityFilter {
    fn name(&self) -> &'static str {
        "ServerGroupAffinityFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::GROUP
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.policy() == Some(Policy::Affinity) && ask.has_members()
    }

    #[inline]
    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        if ask.members_on(host) > 0 {
            Ok(())
        } else {
            Err(Why::PLAIN)
        }
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        let mut with_members = hosts.none();
        for &(slot, _) in ask.members() {
            with_members.set(slot, true);
        }
        left.keep(&with_members);
    }
}

#[cfg(test)]
mod tests {
    use crate::Policy;
    use crate::fixtures::{host, member, verdict_with_members};

    const NAME: &str = "ServerGroupAffinityFilter";

    #[test]
    fn only_a_host_with_members_passes() {
        let request = member(Policy::Affinity);
        assert_eq!(verdict_with_members(NAME, host(), &[("node-1", 1)], &request), Ok(()));
        assert_eq!(
            verdict_with_members(NAME, host(), &[("node-2", 1)], &request),
            Err(format!("0/1 hosts: 1 {NAME}"))
        );
    }

    #[test]
    fn the_first_member_may_go_anywhere() {
        assert_eq!(
            verdict_with_members(NAME, host(), &[], &member(Policy::Affinity)),
            Ok(())
        );
    }

    #[test]
    fn other_policies_are_not_its_business() {
        for policy in [Policy::ANTI_AFFINITY, Policy::SoftAffinity, Policy::SoftAntiAffinity] {
            assert_eq!(
                verdict_with_members(NAME, host(), &[("node-2", 5)], &member(policy)),
                Ok(())
            );
        }
    }
}
