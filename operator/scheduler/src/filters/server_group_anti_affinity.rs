//! ServerGroupAntiAffinityFilter: the host holds fewer members of the group than the policy allows.
//!
//! Nova: `nova/scheduler/filters/affinity_filter.py`, with the rule `max_server_per_host` (1 unless told). Reservations
//! count as members, so two members that are created at once never share a host; Nova finds that out on the host.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate, Policy};

/// See the module.
#[derive(Debug)]
pub(super) struct ServerGroupAntiAffinityFilter;

impl Filter for ServerGroupAntiAffinityFilter {
    fn name(&self) -> &'static str {
        "ServerGroupAntiAffinityFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::GROUP
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        matches!(ask.policy(), Some(Policy::AntiAffinity { .. })) && ask.has_members()
    }

    #[inline]
    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        match ask.policy() {
            Some(Policy::AntiAffinity { max_per_host }) if ask.members_on(host) >= max_per_host.get() => {
                Err(Why::PLAIN)
            }
            _ => Ok(()),
        }
    }

    fn sweep(&self, _hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        let Some(Policy::AntiAffinity { max_per_host }) = ask.policy() else {
            return;
        };
        for &(slot, members) in ask.members() {
            if members >= max_per_host.get() {
                left.set(slot, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use crate::Policy;
    use crate::fixtures::{host, member, verdict_with_members};

    const NAME: &str = "ServerGroupAntiAffinityFilter";

    #[test]
    fn a_host_with_a_member_is_rejected() {
        let request = member(Policy::ANTI_AFFINITY);
        assert_eq!(
            verdict_with_members(NAME, host(), &[("node-1", 1)], &request),
            Err(format!("0/1 hosts: 1 {NAME}"))
        );
        assert_eq!(verdict_with_members(NAME, host(), &[("node-2", 1)], &request), Ok(()));
        assert_eq!(verdict_with_members(NAME, host(), &[], &request), Ok(()));
    }

    #[test]
    fn the_rule_may_allow_more_than_one_member_a_host() {
        let request = member(Policy::AntiAffinity {
            max_per_host: NonZeroU32::new(3).unwrap(),
        });
        assert_eq!(verdict_with_members(NAME, host(), &[("node-1", 2)], &request), Ok(()));
        assert!(verdict_with_members(NAME, host(), &[("node-1", 3)], &request).is_err());
    }

    #[test]
    fn other_policies_are_not_its_business() {
        for policy in [Policy::Affinity, Policy::SoftAffinity, Policy::SoftAntiAffinity] {
            assert_eq!(
                verdict_with_members(NAME, host(), &[("node-1", 5)], &member(policy)),
                Ok(())
            );
        }
    }
}
