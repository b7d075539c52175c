//! ServerGroupSoftAntiAffinityWeigher: members of the group on the host, counted against it.
//!
//! Nova: `nova/scheduler/weights/affinity.py`. Reservations count as members.

use super::Weigher;
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Candidate, Policy};

/// See the module.
#[derive(Debug)]
pub(super) struct ServerGroupSoftAntiAffinityWeigher;

impl Weigher for ServerGroupSoftAntiAffinityWeigher {
    fn name(&self) -> &'static str {
        "ServerGroupSoftAntiAffinityWeigher"
    }

    fn multiplier_key(&self) -> &'static str {
        "soft_anti_affinity_weight_multiplier"
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.policy() == Some(Policy::SoftAntiAffinity) && ask.has_members()
    }

    fn measure(&self, host: Candidate<'_>, ask: &Ask<'_>) -> f64 {
        -f64::from(ask.members_on(host))
    }

    fn sweep(&self, _hosts: &Hosts, ask: &Ask<'_>, _slots: &Bits, figures: &mut [f64]) {
        // All the other hosts have none.
        for &(slot, members) in ask.members() {
            figures[slot as usize] = -f64::from(members);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Policy;
    use crate::fixtures::chosen_among_members;

    const NAME: &str = "ServerGroupSoftAntiAffinityWeigher";

    #[test]
    fn the_host_with_fewest_members_wins() {
        let members = [("node-1", 4), ("node-2", 0), ("node-3", 1)];
        assert_eq!(
            chosen_among_members(NAME, &members, Policy::SoftAntiAffinity),
            [("node-2", 1.0), ("node-3", 0.75), ("node-1", 0.0)]
        );
    }

    #[test]
    fn other_policies_weigh_nothing() {
        let weights = chosen_among_members(NAME, &[("node-2", 3)], Policy::SoftAffinity);
        assert!(weights.iter().all(|&(_, weight)| weight == 0.0), "{weights:?}");
    }
}
