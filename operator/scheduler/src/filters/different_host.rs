//! DifferentHostFilter: none of the Instances that the hint names is on the host.
//!
//! Nova: `nova/scheduler/filters/affinity_filter.py`, hint `different_host`. Reservations count. An Instance that is nowhere
//! keeps nobody away.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct DifferentHostFilter;

impl Filter for DifferentHostFilter {
    fn name(&self) -> &'static str {
        "DifferentHostFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::INSTANCES
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        !ask.different.is_empty()
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        if ask.different.binary_search(&host.slot()).is_err() {
            Ok(())
        } else {
            Err(Why::PLAIN)
        }
    }

    fn sweep(&self, _hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        for &slot in &ask.different {
            left.set(slot, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{ask, demanding, host, only_with, request};
    use crate::{Demands, Hints, Options, Resources, Uid};

    const NAME: &str = "DifferentHostFilter";

    fn judge(hint: &[&str]) -> Result<(), String> {
        let mut cluster = only_with(&Options::default(), NAME);
        cluster.upsert_host(host());
        cluster.place(&Uid::from("db"), "node-1", &Resources::default(), None);
        cluster.place(&Uid::from("web"), "node-2", &Resources::default(), None);
        let hints = Hints {
            different_host: hint.iter().map(|uid| Uid::from(*uid)).collect(),
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
    fn a_host_with_one_of_them_is_rejected() {
        assert_eq!(judge(&["web", "db"]), Err(format!("0/1 hosts: 1 {NAME}")));
    }

    #[test]
    fn other_hosts_pass_and_so_do_all_when_the_instance_is_nowhere() {
        assert_eq!(judge(&["web"]), Ok(()));
        assert_eq!(judge(&["unheard-of"]), Ok(()));
        assert_eq!(judge(&[]), Ok(()));
    }

    #[test]
    fn a_reservation_counts() {
        let mut cluster = only_with(&Options::default(), NAME);
        cluster.upsert_host(host());
        cluster.schedule(&request(), std::time::Duration::ZERO).unwrap();
        let hints = Hints {
            different_host: [request().uid].into(),
            ..Hints::default()
        };
        let mut apart = demanding(Demands {
            hints,
            ..Demands::default()
        });
        apart.uid = Uid::from("apart");
        assert!(ask(&cluster, &apart).is_err());
    }
}
