//! ServerGroupSoftAffinityWeigher: members of the group on the host.
//!
//! Nova: `nova/scheduler/weights/affinity.py`. Reservations count as members.

use super::Weigher;
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Candidate, Policy};

/// See the module.
#[derive(Debug)]
pub(super) struct ServerGroupSoftAffinityWeigher;

impl Weigher for ServerGroupSoftAffinityWeigher {
    fn name(&self) -> &'static str {
        "ServerGroupSoftAffinityWeigher"
    }

    fn multiplier_key(&self) -> &'static str {
        "soft_affinity_weight_multiplier"
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.policy() == Some(Policy::SoftAffinity) && ask.has_members()
    }

    fn measure(&self, host: Candidate<'_>, ask: &Ask<'_>) -> f64 {
        f64::from(ask.members_on(host))
    }

    fn sweep(&self, _hosts: &Hosts, ask: &Ask<'_>, _slots: &Bits, figures: &mut [f64]) {
        // All the other hosts have none.
        for &(slot, members) in ask.members() {
            figures[slot as usize] = f64::from(members);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Policy;
    use crate::fixtures::chosen_among_members;

    const NAME: &str = "ServerGroupSoftAffinityWeigher";

    #[test]
    fn the_host_with_most_members_wins() {
        let members = [("node-1", 1), ("node-2", 3), ("node-3", 2)];
        assert_eq!(
            chosen_among_members(NAME, &members, Policy::SoftAffinity),
            [("node-2", 1.0), ("node-3", 0.5), ("node-1", 0.0)]
        );
    }

    #[test]
    fn other_policies_weigh_nothing() {
        let weights = chosen_among_members(NAME, &[("node-2", 3)], Policy::SoftAntiAffinity);
        assert!(weights.iter().all(|&(_, weight)| weight == 0.0), "{weights:?}");
    }
}
