//! One decision: filter, weigh, pick.

use std::cmp::Ordering;

use crate::filters::Filter;
use crate::groups::Groups;
use crate::hosts::Hosts;
use crate::outcome::Tally;
use crate::weighers::normalise;
use crate::{Aspects, Candidate, Policy, Profile, Refusal, Request};

/// A request with everything looked up once, so that filters compare numbers.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The request itself.
    pub request: &'a Request,
    pub(crate) zone: Option<u32>,
    pub(crate) architecture: Option<u32>,
    /// Slots, sorted.
    pub(crate) only: Option<Vec<u32>>,
    /// Slots, sorted.
    pub(crate) excluded: Vec<u32>,
    /// Host slots with members of the group and how many, sorted by slot.
    members: &'a [(u32, u32)],
}

impl<'a> Ask<'a> {
    pub(crate) fn new(request: &'a Request, hosts: &Hosts, groups: &'a Groups) -> Self {
        let slots = |names: &mut dyn Iterator<Item = &String>| {
            let mut slots: Vec<u32> = names.filter_map(|name| hosts.find(name)).collect();
            slots.sort_unstable();
            slots
        };
        Self {
            request,
            zone: request.zone.as_deref().map(|zone| hosts.find_zone(zone)),
            architecture: request
                .architecture
                .as_deref()
                .map(|name| hosts.find_architecture(name)),
            only: request.only_hosts.as_ref().map(|only| slots(&mut only.hosts.iter())),
            excluded: slots(&mut request.excluded_hosts.iter()),
            members: request.group.as_ref().map_or(&[], |group| groups.hosts_of(&group.uid)),
        }
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

    /// How many members of the request's group are on a host, reservations included.
    #[inline]
    pub fn members_on(&self, host: Candidate<'_>) -> u32 {
        self.members
            .binary_search_by_key(&host.slot(), |&(slot, _)| slot)
            .map_or(0, |at| self.members[at].1)
    }
}

/// The hosts that are ranked beyond the chosen one, for explanations.
const BEST: usize = 3;

/// So many hosts go through all filters before the next ones do: what filters read of them stays in the L1 cache.
const BLOCK: u32 = 256;

/// The outcome of a decision, in slots.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) slot: u32,
    pub(crate) survivors: u32,
    pub(crate) best: Vec<(u32, f64)>,
}

/// Filters, weighs and picks. The same state, profile, seed and request always give the same answer.
pub(crate) fn decide(profile: &Profile, seed: u64, hosts: &Hosts, ask: &Ask<'_>) -> Result<Choice, Refusal> {
    let survivors = feasible_hosts(profile, hosts, ask)?;
    let weights = weights(profile, hosts, ask, &survivors);
    let wanted = usize::from(profile.host_subset_size.get()).max(BEST);
    let chance = mix(seed ^ ask.request.uid.stable_hash());
    let mut best = rank(hosts, &survivors, &weights, chance, wanted);
    let subset = best.len().min(profile.host_subset_size.get().into());
    // `feasible_hosts` refuses when nobody survives, so there is always one to pick; the modulus is below 256.
    let picked = usize::try_from(mix(chance) % subset.max(1) as u64).unwrap_or(0);
    let slot = best[picked].slot;
    best.truncate(BEST);
    Ok(Choice {
        slot,
        survivors: u32::try_from(survivors.len()).unwrap_or(u32::MAX),
        best: best.into_iter().map(|ranked| (ranked.slot, ranked.weight)).collect(),
    })
}

/// The slots of all hosts that pass every filter; a refusal when there are none.
fn feasible_hosts(profile: &Profile, hosts: &Hosts, ask: &Ask<'_>) -> Result<Vec<u32>, Refusal> {
    let mut filters: Vec<(&dyn Filter, Tally<'_>)> = profile
        .filters
        .iter()
        .filter(|filter| filter.applies(ask))
        .map(|&filter| (filter, Tally::default()))
        .collect();
    let mut survivors = Vec::with_capacity(hosts.registered() as usize);
    let mut block = Vec::with_capacity(BLOCK as usize);
    let mut start = 0;
    while start < hosts.slots() {
        let end = start.saturating_add(BLOCK).min(hosts.slots());
        block.clear();
        block.extend(hosts.registered_in(start..end));
        for (filter, tally) in &mut filters {
            filter.sweep(hosts, ask, &mut block, tally);
        }
        survivors.extend_from_slice(&block);
        start = end;
    }
    if !survivors.is_empty() {
        return Ok(survivors);
    }
    let mut refusal = Refusal {
        hosts: hosts.registered(),
        rejections: Vec::new(),
        reads: Aspects::NONE,
    };
    for (filter, tally) in filters {
        if let Some(rejection) = tally.into_rejection(filter.name()) {
            refusal.rejections.push(rejection);
            refusal.reads = refusal.reads | filter.reads();
        }
    }
    Err(refusal)
}

/// The weights of the survivors, in their order.
fn weights(profile: &Profile, hosts: &Hosts, ask: &Ask<'_>, survivors: &[u32]) -> Vec<f64> {
    let mut weights = vec![0.0; survivors.len()];
    // Nova weighs a single host as 0.
    if survivors.len() <= 1 {
        return weights;
    }
    let mut measures = Vec::with_capacity(survivors.len());
    for &(weigher, multiplier) in &profile.weighers {
        if multiplier == 0.0 || !weigher.applies(ask) {
            continue;
        }
        weigher.sweep(hosts, ask, survivors, &mut measures);
        normalise(&mut measures, weigher.floor());
        for (weight, measure) in weights.iter_mut().zip(&measures) {
            *weight += multiplier * measure;
        }
    }
    weights
}

/// A host with what decides its place.
#[derive(Debug, Clone, Copy)]
struct Ranked {
    slot: u32,
    weight: f64,
    /// Decides among equal weights. Different for each request, so that equals take turns.
    lot: u64,
}

impl Ranked {
    /// Best first. The slot makes the order total, should two lots be equal.
    fn order(&self, other: &Self) -> Ordering {
        other
            .weight
            .total_cmp(&self.weight)
            .then(self.lot.cmp(&other.lot))
            .then(self.slot.cmp(&other.slot))
    }
}

/// The best hosts, best first, at most `wanted` of them. One pass: nearly all hosts end at the first comparison.
fn rank(hosts: &Hosts, survivors: &[u32], weights: &[f64], chance: u64, wanted: usize) -> Vec<Ranked> {
    let mut best: Vec<Ranked> = Vec::with_capacity(wanted + 1);
    let mut bar = f64::NEG_INFINITY;
    for (&slot, &weight) in survivors.iter().zip(weights) {
        if weight < bar {
            continue;
        }
        let ranked = Ranked {
            slot,
            weight,
            lot: mix(chance ^ hosts.candidate(slot).name_hash()),
        };
        let at = best.partition_point(|better| better.order(&ranked) == Ordering::Less);
        if at >= wanted {
            continue;
        }
        best.insert(at, ranked);
        best.truncate(wanted);
        if best.len() == wanted {
            bar = best[wanted - 1].weight;
        }
    }
    best
}

/// Spreads a number over all 64 bits (the finaliser of splitmix64).
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
