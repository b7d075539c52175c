//! TraitsFilter: the host has the traits that are required, none that is forbidden, and one of each set of choices.
//!
//! Ours, for Placement's `required=T`, `required=!T` and `required=in:T1,T2`. Nova asks that of extra specs
//! `trait:NAME=required` and `=forbidden`.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct TraitsFilter;

impl Filter for TraitsFilter {
    fn name(&self) -> &'static str {
        "TraitsFilter"
    }

    fn is_placement(&self) -> bool {
        true
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::LABELS
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.demands().is_some_and(|demands| {
            !(demands.required_traits.is_empty()
                && demands.forbidden_traits.is_empty()
                && demands.any_traits.is_empty())
        })
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let (Some(demands), Some(facts)) = (ask.demands(), host.host()) else {
            return Ok(());
        };
        let missing = demands
            .required_traits
            .iter()
            .find(|name| !facts.traits.contains(*name));
        let forbidden = demands
            .forbidden_traits
            .iter()
            .find(|name| facts.traits.contains(*name));
        let none_of = demands.any_traits.iter().find(|names| names.is_disjoint(&facts.traits));
        let none_of = none_of.map(|names| names.first().map_or("", String::as_str));
        match missing.or(forbidden).map(String::as_str).or(none_of) {
            Some(name) => Err(Why::because(name)),
            None => Ok(()),
        }
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        let Some(demands) = ask.demands() else { return };
        for name in &demands.required_traits {
            match hosts.with_trait(name) {
                Some(having) => left.keep(having),
                None => left.clear(),
            }
        }
        for having in demands
            .forbidden_traits
            .iter()
            .filter_map(|name| hosts.with_trait(name))
        {
            left.drop_all(having);
        }
        for names in &demands.any_traits {
            let mut any = hosts.none();
            for having in names.iter().filter_map(|name| hosts.with_trait(name)) {
                any.add_all(having);
            }
            left.keep(&any);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::fixtures::{demanding, host, verdict};
    use crate::{Demands, Host};

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn judge(demands: Demands) -> Result<(), String> {
        let host = Host {
            traits: set(&["CUSTOM_SSD", "HW_CPU_X86_AVX2"]),
            ..host()
        };
        verdict("TraitsFilter", host, &demanding(demands))
    }

    #[test]
    fn all_that_is_required_must_be_there() {
        let required = |names: &[&str]| Demands {
            required_traits: set(names),
            ..Demands::default()
        };
        assert_eq!(judge(required(&["CUSTOM_SSD", "HW_CPU_X86_AVX2"])), Ok(()));
        assert_eq!(
            judge(required(&["CUSTOM_SSD", "CUSTOM_GPU"])),
            Err("0/1 hosts: 1 TraitsFilter (CUSTOM_GPU)".to_owned())
        );
    }

    #[test]
    fn nothing_that_is_forbidden_may_be_there() {
        let forbidden = |names: &[&str]| Demands {
            forbidden_traits: set(names),
            ..Demands::default()
        };
        assert_eq!(judge(forbidden(&["CUSTOM_GPU"])), Ok(()));
        assert_eq!(
            judge(forbidden(&["CUSTOM_GPU", "CUSTOM_SSD"])),
            Err("0/1 hosts: 1 TraitsFilter (CUSTOM_SSD)".to_owned())
        );
    }

    #[test]
    fn of_each_set_of_choices_one_must_be_there() {
        let choices = |sets: &[&[&str]]| Demands {
            any_traits: sets.iter().map(|names| set(names)).collect(),
            ..Demands::default()
        };
        assert_eq!(
            judge(choices(&[&["CUSTOM_GPU", "CUSTOM_SSD"], &["HW_CPU_X86_AVX2"]])),
            Ok(())
        );
        assert!(judge(choices(&[&["CUSTOM_SSD"], &["CUSTOM_GPU", "CUSTOM_FPGA"]])).is_err());
        assert!(judge(choices(&[&[]])).is_err(), "no choice is there to be had");
    }
}
