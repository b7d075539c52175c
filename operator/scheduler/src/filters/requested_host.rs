//! RequestedHostFilter: the host is the one that an operator named.
//!
//! Ours, for Nova's `requested_destination` (`host` of a create request since 2.74): all other filters hold as well. Nova's
//! older `availability_zone=ZONE:HOST` skips them; nothing here does.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct RequestedHostFilter;

impl Filter for RequestedHostFilter {
    fn name(&self) -> &'static str {
        "RequestedHostFilter"
    }

    fn is_placement(&self) -> bool {
        true
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::NONE
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.request.forced_host.is_some()
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let named = host.host().map(|host| &host.name);
        if ask.request.forced_host.is_none() || ask.request.forced_host.as_ref() == named {
            Ok(())
        } else {
            Err(Why::PLAIN)
        }
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        let Some(name) = &ask.request.forced_host else { return };
        let slot = hosts.find(name).filter(|&slot| left.contains(slot));
        left.clear();
        if let Some(slot) = slot {
            left.set(slot, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{host, request, verdict};
    use crate::{Host, Request, Scheduling};

    fn on(name: &str) -> Request {
        Request {
            forced_host: Some(name.to_owned()),
            ..request()
        }
    }

    #[test]
    fn only_the_named_host_passes() {
        assert_eq!(verdict("RequestedHostFilter", host(), &on("node-1")), Ok(()));
        assert_eq!(
            verdict("RequestedHostFilter", host(), &on("node-2")),
            Err("0/1 hosts: 1 RequestedHostFilter".to_owned())
        );
        assert_eq!(verdict("RequestedHostFilter", host(), &request()), Ok(()));
    }

    #[test]
    fn a_named_host_that_is_cordoned_is_still_rejected() {
        let cordoned = Host {
            scheduling: Scheduling::Cordoned { reason: String::new() },
            ..host()
        };
        assert_eq!(
            verdict("ComputeFilter", cordoned, &on("node-1")),
            Err("0/1 hosts: 1 ComputeFilter (disabled)".to_owned())
        );
    }
}
