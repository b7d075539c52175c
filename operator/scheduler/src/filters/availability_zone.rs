//! AvailabilityZoneFilter: the host is in the zone that the request names.
//!
//! Nova: the filter of this name until 2023; now the pre-filter `map_az_to_placement_aggregate`. An Instance that names
//! no zone may go to any.

use super::{Filter, Why};
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct AvailabilityZoneFilter;

impl Filter for AvailabilityZoneFilter {
    fn name(&self) -> &'static str {
        "AvailabilityZoneFilter"
    }

    fn reads(&self) -> Aspects {
        Aspects::ZONE
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.zone.is_some()
    }

    #[inline]
    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        if ask.zone.is_none_or(|zone| zone == host.zone()) {
            Ok(())
        } else {
            Err(Why::PLAIN)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Request;
    use crate::fixtures::{host, request, verdict};

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
    fn a_host_elsewhere_is_rejected_also_when_no_host_has_the_zone() {
        for zone in ["az2", "", "AZ1"] {
            assert_eq!(
                verdict("AvailabilityZoneFilter", host(), &in_zone(zone)),
                Err("0/1 hosts: 1 AvailabilityZoneFilter".to_owned())
            );
        }
    }
}
