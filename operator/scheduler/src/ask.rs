//! A request with everything looked up once.

use std::collections::HashMap;

use crate::allocation::Allocation;
use crate::attribute::{Attribute, Number};
use crate::bound::Bound;
use crate::comparison::Comparison;
use crate::groups::Groups;
use crate::guest::Guest;
use crate::hosts::Hosts;
use crate::{Candidate, Demands, Hints, Options, Policy, Request, Uid};

/// A request with everything looked up once, so that filters compare numbers.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The request itself.
    pub request: &'a Request,
    /// What the operator has told filters and weighers.
    pub options: &'a Options,
    /// Slots, sorted.
    pub(crate) only: Option<Vec<u32>>,
    /// Slots, sorted.
    pub(crate) excluded: Vec<u32>,
    /// Host slots with members of the group and how many, sorted by slot.
    members: &'a [(u32, u32)],
    /// The hosts of the Instances of the hint `different_host`, sorted.
    pub(crate) different: Vec<u32>,
    /// The hosts of the Instances of the hint `same_host`, sorted; `None` when there is no such hint.
    pub(crate) same: Option<Vec<u32>>,
    pub(crate) units: Vec<Units<'a>>,
    pub(crate) capabilities: Vec<Capability<'a>>,
    /// What the image needs.
    pub(crate) guest: Guest<'a>,
}

/// So many units of a resource class.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Units<'a> {
    pub(crate) class: &'a str,
    /// `None` when no host has ever had any.
    pub(crate) number: Option<u32>,
    pub(crate) asked: u64,
}

/// Something that a capability of the host must satisfy.
#[derive(Debug)]
pub(crate) struct Capability<'a> {
    /// As the extra spec names it.
    pub(crate) path: &'a str,
    pub(crate) attribute: Attribute,
    pub(crate) requirement: &'a str,
    /// The same as a comparison of a column, where it is one.
    pub(crate) bound: Option<Bound>,
}

impl<'a> Capability<'a> {
    fn new(path: &'a str, requirement: &'a str) -> Self {
        let parts: Vec<&str> = path.split(':').collect();
        // What Nova doesn't know as an attribute, it looks for in the host's stats.
        let attribute = Attribute::find(&parts).unwrap_or_else(|| Attribute::Label(path.to_owned()));
        let bound = match attribute {
            Attribute::Number(number) => bound(number, requirement),
            _ => None,
        };
        Self {
            path,
            attribute,
            requirement,
            bound,
        }
    }
}

/// A requirement such as `>= 16` as a comparison of a column.
fn bound(number: Number, requirement: &str) -> Option<Bound> {
    let mut words = requirement.split_whitespace();
    let comparison = match words.next()? {
        "=" | ">=" => Comparison::GreaterOrEqual,
        "==" => Comparison::Equal,
        "<=" => Comparison::LessOrEqual,
        _ => return None,
    };
    let value: f64 = words.next()?.parse().ok()?;
    // NaN compares with nothing, which bounds of blocks don't show.
    (!value.is_nan())
        .then(|| Bound::new(number, comparison, value))
        .flatten()
}

impl<'a> Ask<'a> {
    pub(crate) fn new(
        request: &'a Request,
        options: &'a Options,
        hosts: &Hosts,
        groups: &'a Groups,
        allocations: &HashMap<Uid, Allocation>,
    ) -> Self {
        let slots = |names: &mut dyn Iterator<Item = &String>| {
            let mut slots: Vec<u32> = names.filter_map(|name| hosts.find(name)).collect();
            slots.sort_unstable();
            slots
        };
        let mut ask = Self {
            request,
            options,
            only: request.only_hosts.as_ref().map(|only| slots(&mut only.hosts.iter())),
            excluded: slots(&mut request.excluded_hosts.iter()),
            members: request.group.as_ref().map_or(&[], |group| groups.hosts_of(&group.uid)),
            different: Vec::new(),
            same: None,
            units: Vec::new(),
            capabilities: Vec::new(),
            guest: Guest::of(request, options),
        };
        if let Some(demands) = &request.demands {
            ask.look_up(demands, hosts, allocations);
        }
        ask
    }

    fn look_up(&mut self, demands: &'a Demands, hosts: &Hosts, allocations: &HashMap<Uid, Allocation>) {
        let hosts_of = |uids: &mut dyn Iterator<Item = &Uid>| {
            let mut slots: Vec<u32> = uids.filter_map(|uid| Some(allocations.get(uid)?.host)).collect();
            slots.sort_unstable();
            slots
        };
        let Hints {
            different_host,
            same_host,
            ..
        } = &demands.hints;
        self.different = hosts_of(&mut different_host.iter());
        self.same = (!same_host.is_empty()).then(|| hosts_of(&mut same_host.iter()));
        self.units = demands
            .resources
            .iter()
            .filter(|&(_, &asked)| asked > 0)
            .map(|(class, &asked)| Units {
                class,
                number: hosts.resource_classes().find(class),
                asked,
            })
            .collect();
        let unscoped = demands.unscoped.iter();
        let unscoped = unscoped.filter(|(key, _)| Attribute::find(&[key]).is_some());
        self.capabilities = demands
            .capabilities
            .iter()
            .chain(unscoped)
            .map(|(path, requirement)| Capability::new(path, requirement))
            .collect();
    }

    /// What few ask for.
    #[inline]
    pub fn demands(&self) -> Option<&'a Demands> {
        self.request.demands.as_deref()
    }

    /// The policy of the request's group.
    #[inline]
    pub fn policy(&self) -> Option<Policy> {
        self.request.group.as_ref().map(|group| group.policy)
    }

    /// Whether the request's group has members anywhere.
    pub fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Host slots with members of the group and how many, sorted by slot.
    pub(crate) fn members(&self) -> &'a [(u32, u32)] {
        self.members
    }

    /// How many members of the request's group are on a host, reservations included.
    #[inline]
    pub fn members_on(&self, host: Candidate<'_>) -> u32 {
        self.members
            .binary_search_by_key(&host.slot(), |&(slot, _)| slot)
            .map_or(0, |at| self.members[at].1)
    }

    /// A property of the request's image.
    pub fn image_property(&self, key: &str) -> Option<&'a str> {
        self.request.image.as_ref()?.properties.get(key).map(String::as_str)
    }
}
