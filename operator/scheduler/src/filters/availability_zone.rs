//! AvailabilityZoneFilter: the host is in the zone that the request names.
//!
//! Nova: the filter of this name until 2023; now the pre-filter `map_az_to_placement_aggregate`. An Instance that names
//! no zone may go to any. A host's zone is the one of its aggregates, else its own.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct AvailabilityZoneFilter;

impl Filter for AvailabilityZoneFilter {
    fn name(&self) -> &'static str {
        "AvailabilityZoneFilter"
    }

    fn is_placement(&self) -> bool {
        true
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::ZONE
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.request.zone.is_some()
    }

    #[inline]
    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        if ask.request.zone.as_ref().is_none_or(|zone| host.zone() == Some(zone)) {
            Ok(())
        } else {
            Err(Why::PLAIN)
        }
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        if let Some(zone) = &ask.request.zone {
            match hosts.zones().find(zone) {
                Some(inside) => left.keep(inside),
                None => left.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{aggregate, host, request, verdict, verdict_in};
    use crate::{Aggregate, Request};

    fn in_zone(zone: &str) -> Request {
        Request {
            zone: Some(zone.to_owned()),
            ..request()
        }
    }

    #[test]
    fn a_host_in_the_zone_passes_and_any_host_does_when_no_zone_is_asked() {
        assert_eq!(verdict("AvailabilityZoneFilter", host(), &in_zone("az1")), Ok(()));
        assert_eq!(verdict("AvailabilityZoneFilter", host(), &request()), Ok(()));
    }

    #[test]
    fn an_aggregate_puts_its_hosts_into_its_zone() {
        let zone = [Aggregate {
            zone: Some("az7".to_owned()),
            ..aggregate("seventh", &["node-1"], &[])
        }];
        assert_eq!(verdict_in("AvailabilityZoneFilter", &zone, &in_zone("az7")), Ok(()));
        assert!(verdict_in("AvailabilityZoneFilter", &zone, &in_zone("az1")).is_err());
    }

    #[test]
    fn a_host_elsewhere_is_rejected_also_when_no_host_has_the_zone() {
        for zone in ["az2", "", "AZ1"] {
            assert_eq!(
                verdict("AvailabilityZoneFilter", host(), &in_zone(zone)),
                Err("0/1 hosts: 1 AvailabilityZoneFilter".to_owned())
            );
        }
    }
}
