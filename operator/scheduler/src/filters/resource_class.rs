//! ResourceClassFilter: the host has units of the resource classes that are asked for.
//!
//! Ours, for Placement's inventories of classes other than VCPU, MEMORY_MB and DISK_GB: what is asked for is a multiple of
//! `step_size` from `min_unit` to `max_unit`, and `(total − reserved) × ratio − used` is left.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct ResourceClassFilter;

impl Filter for ResourceClassFilter {
    fn name(&self) -> &'static str {
        "ResourceClassFilter"
    }

    fn is_placement(&self) -> bool {
        true
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::CAPACITY
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        !ask.units.is_empty()
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let inventories = host.host().map(|facts| &facts.inventories);
        for units in &ask.units {
            let allows = inventories
                .and_then(|inventories| inventories.get(units.class))
                .is_some_and(|inventory| inventory.allows(units.asked));
            let left = units.number.map_or(0, |number| host.units_left(number));
            if !allows || units.asked > left {
                return Err(Why::because(units.class));
            }
        }
        Ok(())
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        for units in &ask.units {
            hosts.resource_classes().keep(left, units.number, units.asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::fixtures::{ask, demanding, host, only_with, request};
    use crate::{Claim, Demands, Host, Inventory, Options, Ratio, Request, Resources, Uid};

    fn asking(units: u64) -> Request {
        demanding(Demands {
            resources: BTreeMap::from([("CUSTOM_LICENCE".to_owned(), units)]),
            ..Demands::default()
        })
    }

    fn judge(inventory: Inventory, used: u64, asked: u64) -> Result<(), String> {
        let mut cluster = only_with(&Options::default(), "ResourceClassFilter");
        cluster.upsert_host(Host {
            inventories: BTreeMap::from([("CUSTOM_LICENCE".to_owned(), inventory)]),
            ..host()
        });
        let nothing = Resources::default();
        let units = BTreeMap::from([("CUSTOM_LICENCE".to_owned(), used)]);
        let claim = Claim {
            units: Some(&units),
            ..Claim::new("node-1", &nothing)
        };
        cluster.place_claim(&Uid::from("other"), &claim);
        ask(&cluster, &asking(asked))
    }

    fn rejected() -> Result<(), String> {
        Err("0/1 hosts: 1 ResourceClassFilter (CUSTOM_LICENCE)".to_owned())
    }

    #[test]
    fn units_are_given_out_but_for_what_is_reserved_and_used() {
        let inventory = Inventory {
            reserved: 2,
            ..Inventory::new(10)
        };
        assert_eq!(judge(inventory.clone(), 5, 3), Ok(()));
        assert_eq!(judge(inventory, 5, 4), rejected());
    }

    #[test]
    fn what_is_asked_for_keeps_to_least_most_and_step() {
        let inventory = Inventory {
            min_unit: 4,
            max_unit: 12,
            step_size: 4,
            ..Inventory::new(100)
        };
        for (asked, expected) in [
            (2, rejected()),
            (4, Ok(())),
            (6, rejected()),
            (12, Ok(())),
            (16, rejected()),
        ] {
            assert_eq!(judge(inventory.clone(), 0, asked), expected, "{asked}");
        }
    }

    #[test]
    fn overcommit_does_not_make_one_instance_larger_than_the_host() {
        let inventory = Inventory {
            ratio: Ratio::FOUR,
            ..Inventory::new(10)
        };
        assert_eq!(judge(inventory.clone(), 30, 10), Ok(()));
        assert_eq!(judge(inventory.clone(), 31, 10), rejected());
        assert_eq!(judge(inventory, 0, 11), rejected());
    }

    #[test]
    fn a_host_without_the_class_is_rejected_and_one_that_nobody_asks_for_is_not() {
        let mut cluster = only_with(&Options::default(), "ResourceClassFilter");
        cluster.upsert_host(host());
        assert_eq!(ask(&cluster, &asking(1)), rejected());
        assert_eq!(ask(&cluster, &asking(0)), Ok(()));
        assert_eq!(ask(&cluster, &request()), Ok(()));
    }
}
