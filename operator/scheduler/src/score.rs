//! How good is each of the hosts that passed? Nova's sum of normalised measures, column by column.
//!
//! A measure becomes `(x − lowest) / (highest − lowest)` over the hosts of this decision (Nova's `normalize` in
//! `nova/weights.py`), all 0 where the two are the same. With a floor, that is the lowest, and measures below it count as
//! it. The division is a multiplication with the reciprocal, which may differ from Nova in the last bit.

use std::cmp::Ordering;

use crate::bits::{BLOCK, Bits, ones};
use crate::column::Column;
use crate::hosts::Hosts;
use crate::weighers::Weigher;
use crate::{Ask, Part, Profile};

/// One weigher's scale for one decision.
#[derive(Debug)]
pub(crate) struct Scale<'a> {
    weigher: &'static dyn Weigher,
    multiplier: f64,
    /// Multipliers of aggregates, NaN where they set none.
    by_aggregate: Option<&'a [f64]>,
    figures: Figures<'a>,
    lowest: f64,
    /// 1 / (highest − lowest).
    per_unit: f64,
}

#[derive(Debug)]
enum Figures<'a> {
    /// Kept up to date.
    Kept(&'a Column<f64>),
    /// Worked out for this request; by slot, a whole number of blocks.
    Worked(Vec<f64>),
}

impl Figures<'_> {
    #[inline]
    fn block(&self, block: usize) -> Option<&[f64; BLOCK]> {
        match self {
            Self::Kept(column) => column.block(block),
            Self::Worked(figures) => figures.get(block * BLOCK..)?.first_chunk(),
        }
    }

    fn get(&self, slot: u32) -> f64 {
        match self {
            Self::Kept(column) => column.get(slot),
            Self::Worked(figures) => figures.get(slot as usize).copied().unwrap_or(0.0),
        }
    }
}

/// The scales of all weighers that tell the survivors apart.
pub(crate) fn scales<'a>(profile: &Profile, hosts: &'a Hosts, ask: &Ask<'_>, survivors: &Bits) -> Vec<Scale<'a>> {
    let mut scales = Vec::with_capacity(profile.weighers.len());
    for &(weigher, multiplier) in &profile.weighers {
        let by_aggregate = hosts.multipliers(weigher.multiplier_key());
        if multiplier == 0.0 && by_aggregate.is_none() || !weigher.applies(ask) {
            continue;
        }
        let (figures, lowest, highest) = if let Some(measure) = weigher.kept() {
            let column = hosts.measure(measure);
            let (lowest, highest) = column.range(survivors, hosts.registered(), weigher.floor());
            (Figures::Kept(column), lowest, highest)
        } else {
            let mut figures = vec![0.0; hosts.blocks() * BLOCK];
            weigher.sweep(hosts, ask, survivors, &mut figures);
            let (lowest, highest) = survivors
                .iter()
                .map(|slot| figures[slot as usize])
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), figure| {
                    (low.min(figure), high.max(figure))
                });
            (Figures::Worked(figures), lowest, highest)
        };
        let lowest = weigher.floor().unwrap_or(lowest);
        let range = highest - lowest;
        if range > 0.0 && range.is_finite() {
            scales.push(Scale {
                weigher,
                multiplier,
                by_aggregate,
                figures,
                lowest,
                per_unit: 1.0 / range,
            });
        }
    }
    scales
}

impl Scale<'_> {
    /// Adds what it gives each host of a block. The loops have no branches, so that several hosts go at once.
    #[inline]
    fn add(&self, block: usize, weights: &mut [f64; BLOCK]) {
        let Some(figures) = self.figures.block(block) else {
            return;
        };
        let Self {
            multiplier,
            lowest,
            per_unit,
            ..
        } = *self;
        let by_aggregate = self
            .by_aggregate
            .and_then(|all| all.get(block * BLOCK..)?.first_chunk::<BLOCK>());
        match by_aggregate {
            None => {
                for (weight, figure) in weights.iter_mut().zip(figures) {
                    *weight += (figure - lowest) * per_unit * multiplier;
                }
            }
            Some(others) => {
                let sign = self.weigher.sign();
                for ((weight, figure), other) in weights.iter_mut().zip(figures).zip(others) {
                    let multiplier = if other.is_nan() { multiplier } else { sign * other };
                    *weight += (figure - lowest) * per_unit * multiplier;
                }
            }
        }
    }

    /// What it gives one host.
    fn part(&self, slot: u32) -> Part {
        let by_aggregate = self.by_aggregate.and_then(|all| all.get(slot as usize));
        let measure = self.figures.get(slot);
        Part {
            weigher: self.weigher.name(),
            measure,
            normalised: (measure - self.lowest) * self.per_unit,
            multiplier: match by_aggregate {
                Some(other) if !other.is_nan() => self.weigher.sign() * other,
                _ => self.multiplier,
            },
        }
    }
}

/// What each scale gives one host.
pub(crate) fn parts(scales: &[Scale<'_>], slot: u32) -> Vec<Part> {
    scales.iter().map(|scale| scale.part(slot)).collect()
}

/// The weight of one host, added up in the same order as [`rank`] does.
pub(crate) fn weight(parts: &[Part]) -> f64 {
    parts.iter().fold(0.0, |weight, part| weight + part.weight())
}

/// A host with what decides its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranked {
    pub(crate) slot: u32,
    pub(crate) weight: f64,
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

/// The best of the survivors, best first, at most `wanted` of them. Every survivor is weighed; nearly all end at the
/// first comparison, which is made for a whole block at once.
pub(crate) fn rank(hosts: &Hosts, survivors: &Bits, scales: &[Scale<'_>], chance: u64, wanted: usize) -> Vec<Ranked> {
    let mut best: Vec<Ranked> = Vec::with_capacity(wanted + 1);
    let mut bar = f64::NEG_INFINITY;
    let mut bar_lot = u64::MAX;
    for (block, &word) in survivors.words().iter().enumerate() {
        if word == 0 {
            continue;
        }
        let mut weights = [0.0; BLOCK];
        for scale in scales {
            scale.add(block, &mut weights);
        }
        // Those that did not survive are in it too, which at worst costs a closer look.
        if highest(&weights) < bar {
            continue;
        }
        let Some(hashes) = hosts.name_hashes(block) else {
            continue;
        };
        for slot in ones(block, word) {
            let bit = slot as usize % BLOCK;
            let weight = weights[bit];
            if weight < bar {
                continue;
            }
            let lot = lot(chance, hashes[bit]);
            if weight <= bar && lot > bar_lot {
                continue;
            }
            let ranked = Ranked { slot, weight, lot };
            let at = best.partition_point(|better| better.order(&ranked) == Ordering::Less);
            if at >= wanted {
                continue;
            }
            best.insert(at, ranked);
            best.truncate(wanted);
            if best.len() == wanted {
                bar = best[wanted - 1].weight;
                bar_lot = best[wanted - 1].lot;
            }
        }
    }
    best
}

/// The highest of a block's weights. Eight at a time, because one after the other each would wait for the last.
#[inline]
fn highest(weights: &[f64; BLOCK]) -> f64 {
    let mut lanes = [f64::NEG_INFINITY; 8];
    for chunk in weights.chunks_exact(8) {
        for (lane, weight) in lanes.iter_mut().zip(chunk) {
            *lane = if *weight > *lane { *weight } else { *lane };
        }
    }
    lanes.into_iter().fold(f64::NEG_INFINITY, f64::max)
}

/// A host's lot in a decision. The hash of its name is well mixed already.
#[inline]
fn lot(chance: u64, name_hash: u64) -> u64 {
    (chance ^ name_hash).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// Spreads a number over all 64 bits (the finaliser of splitmix64).
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
