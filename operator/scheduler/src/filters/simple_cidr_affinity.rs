//! SimpleCIDRAffinityFilter: the host's address is in the network of the hints `build_near_host_ip` and `cidr`.
//!
//! Nova: `nova/scheduler/filters/affinity_filter.py`. A host without an address is rejected.

use super::{Filter, Why};
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct SimpleCIDRAffinityFilter;

impl Filter for SimpleCIDRAffinityFilter {
    fn name(&self) -> &'static str {
        "SimpleCIDRAffinityFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::PLATFORM
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.demands().is_some_and(|demands| demands.hints.near.is_some())
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let Some(network) = ask.demands().and_then(|demands| demands.hints.near) else {
            return Ok(());
        };
        match host.host().and_then(|facts| facts.address) {
            Some(address) if network.contains(&address) => Ok(()),
            _ => Err(Why::PLAIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use crate::fixtures::{demanding, host, verdict};
    use crate::{Demands, Hints, Host, near};

    const NAME: &str = "SimpleCIDRAffinityFilter";

    fn judge(address: Option<IpAddr>, near_to: &str, cidr: Option<&str>) -> Result<(), String> {
        let hints = Hints {
            near: Some(near(near_to, cidr).unwrap()),
            ..Hints::default()
        };
        let request = demanding(Demands {
            hints,
            ..Demands::default()
        });
        verdict(NAME, Host { address, ..host() }, &request)
    }

    #[test]
    fn a_host_in_the_network_passes() {
        let address = Some(IpAddr::from([10, 8, 1, 1]));
        assert_eq!(judge(address, "10.8.1.100", None), Ok(()));
        assert_eq!(judge(address, "10.8.1.2", Some("/30")), Ok(()));
        assert_eq!(
            judge(address, "10.8.1.4", Some("/30")),
            Err(format!("0/1 hosts: 1 {NAME}"))
        );
        assert!(judge(address, "10.8.2.1", None).is_err());
    }

    #[test]
    fn a_host_of_the_other_family_or_without_an_address_is_rejected() {
        assert!(judge(None, "10.8.1.100", None).is_err());
        assert!(judge(Some("fd00::1".parse().unwrap()), "10.8.1.100", Some("/0")).is_err());
        assert_eq!(judge(Some("fd00::1".parse().unwrap()), "fd00::2", Some("/64")), Ok(()));
    }
}
