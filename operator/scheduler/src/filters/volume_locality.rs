//! VolumeLocalityFilter: the host is one of those that the request is bound to, for example by a volume on a host's own
//! disk.
//!
//! Ours; Nova has the nearest thing in Cinder's `InstanceLocalityFilter`, seen from the other side.

use super::{Filter, Why, keep_slots};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct VolumeLocalityFilter;

impl Filter for VolumeLocalityFilter {
    fn name(&self) -> &'static str {
        "VolumeLocalityFilter"
    }

    fn is_placement(&self) -> bool {
        true
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::NONE
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.only.is_some()
    }

    #[inline]
    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        if ask
            .only
            .as_ref()
            .is_none_or(|only| only.binary_search(&host.slot()).is_ok())
        {
            Ok(())
        } else {
            Err(Why::because(
                ask.request.only_hosts.as_ref().map_or("", |only| only.reason.as_str()),
            ))
        }
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        if let Some(only) = &ask.only {
            keep_slots(hosts, only, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::fixtures::{host, request, verdict};
    use crate::{OnlyHosts, Request};

    fn bound_to(name: &str) -> Request {
        let only = OnlyHosts {
            hosts: BTreeSet::from([name.to_owned()]),
            reason: format!("volume shop/data is on {name}"),
        };
        Request {
            only_hosts: Some(only),
            ..request()
        }
    }

    #[test]
    fn only_the_host_of_the_volume_passes() {
        assert_eq!(verdict("VolumeLocalityFilter", host(), &bound_to("node-1")), Ok(()));
        assert_eq!(
            verdict("VolumeLocalityFilter", host(), &bound_to("node-3")),
            Err("0/1 hosts: 1 VolumeLocalityFilter (volume shop/data is on node-3)".to_owned())
        );
    }

    #[test]
    fn two_volumes_on_different_hosts_leave_no_host() {
        let mut nowhere = bound_to("node-1");
        nowhere.only_hosts.as_mut().unwrap().hosts.clear();
        assert!(verdict("VolumeLocalityFilter", host(), &nowhere).is_err());
    }

    #[test]
    fn a_request_bound_to_nothing_passes_everywhere() {
        assert_eq!(verdict("VolumeLocalityFilter", host(), &request()), Ok(()));
    }
}
