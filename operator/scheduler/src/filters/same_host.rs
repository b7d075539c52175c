//! SameHostFilter: one at least of the Instances that the hint names is on the host.
//!
//! Nova: `nova/scheduler/filters/affinity_filter.py`, hint `same_host`. Reservations count. When all of them are nowhere, no
//! host passes.

use super::{Filter, Why, keep_slots};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct SameHostFilter;

impl Filter for SameHostFilter {
    fn name(&self) -> &'static str {
        "SameHostFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::INSTANCES
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.same.is_some()
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        match &ask.same {
            Some(slots) if slots.binary_search(&host.slot()).is_err() => Err(Why::PLAIN),
            _ => Ok(()),
        }
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        if let Some(slots) = &ask.same {
            keep_slots(hosts, slots, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{ask, demanding, host, only_with};
    use crate::{Demands, Hints, Options, Resources, Uid};

    const NAME: &str = "SameHostFilter";

    fn judge(hint: &[&str]) -> Result<(), String> {
        let mut cluster = only_with(&Options::default(), NAME);
        cluster.upsert_host(host());
        cluster.place(&Uid::from("db"), "node-1", &Resources::default(), None);
        cluster.place(&Uid::from("web"), "node-2", &Resources::default(), None);
        let hints = Hints {
            same_host: hint.iter().map(|uid| Uid::from(*uid)).collect(),
            ..Hints::default()
        };
        ask(
            &cluster,
            &demanding(Demands {
                hints,
                ..Demands::default()
            }),
        )
    }

    #[test]
    fn a_host_with_one_of_them_passes() {
        assert_eq!(judge(&["db"]), Ok(()));
        assert_eq!(judge(&["web", "db"]), Ok(()));
    }

    #[test]
    fn a_host_with_none_of_them_is_rejected() {
        assert_eq!(judge(&["web"]), Err(format!("0/1 hosts: 1 {NAME}")));
        assert!(judge(&["unheard-of"]).is_err());
    }

    #[test]
    fn without_the_hint_every_host_passes() {
        assert_eq!(judge(&[]), Ok(()));
    }
}
