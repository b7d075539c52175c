//! One decision: filter, weigh, pick.

use crate::bits::Bits;
use crate::filters::Filter;
use crate::hosts::Hosts;
use crate::outcome::Tally;
use crate::score::{mix, parts, rank, scales, weight};
use crate::{Ask, Aspects, HostVerdict, Part, Profile, Refusal, Rejection, Verdict};

/// The hosts that are ranked beyond the chosen one, for explanations.
const BEST: usize = 3;

/// The outcome of a decision, in slots.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) slot: u32,
    pub(crate) survivors: u32,
    pub(crate) best: Vec<Best>,
    /// Filters and how many hosts each rejected.
    pub(crate) rejected: Vec<(&'static str, u32)>,
}

/// One of the best hosts.
#[derive(Debug)]
pub(crate) struct Best {
    pub(crate) slot: u32,
    pub(crate) weight: f64,
    pub(crate) parts: Vec<Part>,
}

/// Filters, weighs and picks. The same state, profile, seed and request always give the same answer.
pub(crate) fn decide(profile: &Profile, seed: u64, hosts: &Hosts, ask: &Ask<'_>) -> Result<Choice, Refusal> {
    let mut rejected: Vec<(&'static dyn Filter, u32)> = Vec::new();
    let survivors = survivors(profile, hosts, ask, |filter, count| rejected.push((filter, count)));
    let count = survivors.count();
    if count == 0 {
        return Err(refusal(profile, hosts, ask, &rejected));
    }
    // Nova weighs a single host as 0.
    let scales = if count > 1 {
        scales(profile, hosts, ask, &survivors)
    } else {
        Vec::new()
    };
    let wanted = usize::from(profile.host_subset_size.get()).max(BEST);
    let chance = mix(seed ^ ask.request.uid.stable_hash());
    let best = rank(hosts, &survivors, &scales, chance, wanted);
    let subset = best.len().min(profile.host_subset_size.get().into());
    // Somebody has survived, so there is always one to pick; the modulus is below 256.
    let picked = usize::try_from(mix(chance) % subset.max(1) as u64).unwrap_or(0);
    Ok(Choice {
        slot: best[picked].slot,
        survivors: count,
        best: best
            .iter()
            .take(BEST)
            .map(|ranked| Best {
                slot: ranked.slot,
                weight: ranked.weight,
                parts: parts(&scales, ranked.slot),
            })
            .collect(),
        rejected: rejected
            .into_iter()
            .map(|(filter, count)| (filter.name(), count))
            .collect(),
    })
}

/// The hosts that pass every filter. `rejects` is told how many each filter took out, where it took any.
fn survivors(
    profile: &Profile,
    hosts: &Hosts,
    ask: &Ask<'_>,
    mut rejects: impl FnMut(&'static dyn Filter, u32),
) -> Bits {
    let mut left = hosts.registered().clone();
    let mut count = hosts.count();
    for &filter in &profile.filters {
        if count == 0 {
            break;
        }
        if !filter.applies(ask) {
            continue;
        }
        filter.sweep(hosts, ask, &mut left);
        let now = left.count();
        if now < count {
            rejects(filter, count - now);
            count = now;
        }
    }
    left
}

/// Why no host passed. Asks each host for its reason, and only those filters once more that took some out.
fn refusal(profile: &Profile, hosts: &Hosts, ask: &Ask<'_>, rejected: &[(&'static dyn Filter, u32)]) -> Refusal {
    let mut refusal = Refusal {
        hosts: hosts.count(),
        rejections: Vec::new(),
        reads: Aspects::NONE,
    };
    // What such a filter lets through, the room in events of freed room may not show.
    let own_ratios = profile.filters.iter().any(|filter| filter.stands_in_for().is_some());
    let mut left = hosts.registered().clone();
    for &(filter, _) in rejected {
        let before = left.clone();
        filter.sweep(hosts, ask, &mut left);
        let mut gone = before;
        gone.drop_all(&left);
        let mut tally = Tally::default();
        for slot in gone.iter() {
            tally.add(filter.check(hosts.candidate(slot), ask).err().unwrap_or_default());
        }
        if let Some(rejection) = tally.into_rejection(filter.name()) {
            refusal.rejections.push(rejection);
            refusal.reads = refusal.reads | filter.reads(ask);
        }
    }
    if own_ratios && refusal.reads.intersects(Aspects::CAPACITY) {
        refusal.reads = refusal.reads | Aspects::USAGE;
    }
    refusal
}

/// What every host says, and how many each filter rejected.
pub(crate) fn verdicts(profile: &Profile, hosts: &Hosts, ask: &Ask<'_>) -> (Vec<HostVerdict>, Vec<Rejection>) {
    let filters: Vec<&dyn Filter> = profile
        .filters
        .iter()
        .copied()
        .map(|filter| filter as &dyn Filter)
        .filter(|filter| filter.applies(ask))
        .collect();
    let mut tallies: Vec<Tally<'_>> = filters.iter().map(|_| Tally::default()).collect();
    let mut passed = hosts.none();
    let mut verdicts = Vec::with_capacity(hosts.count() as usize);
    for slot in hosts.registered().iter() {
        let host = hosts.candidate(slot);
        let rejection = filters
            .iter()
            .enumerate()
            .find_map(|(at, filter)| Some((at, filter.check(host, ask).err()?)));
        match rejection {
            Some((at, why)) => {
                tallies[at].add(why);
                verdicts.push(HostVerdict {
                    host: hosts.name(slot).to_owned(),
                    verdict: Verdict::Rejected {
                        filter: filters[at].name(),
                        text: filters[at].at_length(host, ask).unwrap_or_else(|| why.text.to_owned()),
                        note: why.note.to_owned(),
                    },
                });
            }
            None => passed.set(slot, true),
        }
    }
    let scales = if passed.count() > 1 {
        scales(profile, hosts, ask, &passed)
    } else {
        Vec::new()
    };
    for slot in passed.iter() {
        let parts = parts(&scales, slot);
        verdicts.push(HostVerdict {
            host: hosts.name(slot).to_owned(),
            verdict: Verdict::Passed {
                weight: weight(&parts),
                parts,
            },
        });
    }
    verdicts.sort_unstable_by(|one, other| one.host.cmp(&other.host));
    let names = filters.iter().map(|filter| filter.name());
    let rejections = tallies.into_iter().zip(names);
    let rejections = rejections
        .filter_map(|(tally, name)| tally.into_rejection(name))
        .collect();
    (verdicts, rejections)
}
