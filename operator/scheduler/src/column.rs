//! One figure of every host, side by side, with the bounds of each block of hosts.
//!
//! The bounds are of all registered hosts of a block. They settle most comparisons for 64 hosts at once, and are kept as
//! single figures change.

use crate::bits::{BLOCK, Bits, ones};

/// What a column is made of.
pub(crate) trait Figure: Copy + PartialOrd {
    /// For slots without a host.
    const NONE: Self;
    const LOWEST: Self;
    const HIGHEST: Self;
}

impl Figure for u64 {
    const NONE: Self = 0;
    const LOWEST: Self = 0;
    const HIGHEST: Self = u64::MAX;
}

impl Figure for f64 {
    const NONE: Self = 0.0;
    const LOWEST: Self = f64::NEG_INFINITY;
    const HIGHEST: Self = f64::INFINITY;
}

#[derive(Debug, Clone)]
pub(crate) struct Column<T> {
    /// A whole number of blocks.
    values: Vec<T>,
    lowest: Vec<T>,
    highest: Vec<T>,
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            lowest: Vec::new(),
            highest: Vec::new(),
        }
    }
}

impl<T: Figure> Column<T> {
    pub(crate) fn grow(&mut self, blocks: usize) {
        self.values.resize(blocks * BLOCK, T::NONE);
        self.lowest.resize(blocks, T::HIGHEST);
        self.highest.resize(blocks, T::LOWEST);
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> T {
        self.values.get(slot as usize).copied().unwrap_or(T::NONE)
    }

    /// Sets the figure of a registered host. `registered` is the word of its block.
    pub(crate) fn set(&mut self, slot: u32, value: T, registered: u64) {
        let Some(old) = self.values.get_mut(slot as usize) else {
            return;
        };
        let before = std::mem::replace(old, value);
        let block = slot as usize / BLOCK;
        let (lowest, highest) = (self.lowest[block], self.highest[block]);
        if before > lowest && before < highest && value >= lowest && value <= highest {
            return;
        }
        self.bound(block, registered);
    }

    /// Forgets the figure of a host that is not registered any more.
    pub(crate) fn clear(&mut self, slot: u32, registered: u64) {
        if let Some(value) = self.values.get_mut(slot as usize) {
            *value = T::NONE;
            self.bound(slot as usize / BLOCK, registered);
        }
    }

    fn bound(&mut self, block: usize, registered: u64) {
        let (mut lowest, mut highest) = (T::HIGHEST, T::LOWEST);
        for slot in ones(block, registered) {
            let value = self.values[slot as usize];
            if value < lowest {
                lowest = value;
            }
            if value > highest {
                highest = value;
            }
        }
        self.lowest[block] = lowest;
        self.highest[block] = highest;
    }

    /// The figures of one block.
    #[inline]
    pub(crate) fn block(&self, block: usize) -> Option<&[T; BLOCK]> {
        self.values.get(block * BLOCK..)?.first_chunk()
    }

    /// The lowest and highest figures of the registered hosts of a block.
    #[inline]
    pub(crate) fn bounds(&self, block: usize) -> (T, T) {
        (self.lowest[block], self.highest[block])
    }

    /// Keeps the slots whose figure is at least `least`.
    pub(crate) fn keep_at_least(&self, left: &mut Bits, least: T) {
        left.change(|block, word| {
            let (lowest, highest) = self.bounds(block);
            if lowest >= least {
                return word;
            }
            if highest < least {
                return 0;
            }
            let mut fits = 0;
            if let Some(values) = self.block(block) {
                for (bit, value) in values.iter().enumerate() {
                    fits |= u64::from(*value >= least) << bit;
                }
            }
            word & fits
        });
    }

    /// The lowest and highest figures among `slots`. With a `floor`, that is the lowest, and blocks are not searched for a
    /// lower one.
    pub(crate) fn range(&self, slots: &Bits, registered: &Bits, floor: Option<T>) -> (T, T) {
        let (mut lowest, mut highest) = (floor.unwrap_or(T::HIGHEST), T::LOWEST);
        for (block, (&word, &all)) in slots.words().iter().zip(registered.words()).enumerate() {
            if word == 0 {
                continue;
            }
            let (low, high) = self.bounds(block);
            if low >= lowest && high <= highest {
                continue;
            }
            if word == all {
                if low < lowest {
                    lowest = low;
                }
                if high > highest {
                    highest = high;
                }
                continue;
            }
            for slot in ones(block, word) {
                let value = self.values[slot as usize];
                if value < lowest {
                    lowest = value;
                }
                if value > highest {
                    highest = value;
                }
            }
        }
        (floor.unwrap_or(lowest), highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_follow_every_change_and_leave_out_who_is_gone() {
        let mut column = Column::<u64>::default();
        column.grow(2);
        let mut registered = Bits::empty(2);
        for (slot, value) in [(0, 5), (1, 9), (63, 7), (64, 100)] {
            registered.set(slot, true);
            column.set(slot, value, registered.word(slot as usize / BLOCK));
        }
        assert_eq!((column.bounds(0), column.bounds(1)), ((5, 9), (100, 100)));
        column.set(63, 6, registered.word(0));
        assert_eq!(column.bounds(0), (5, 9));
        column.set(0, 8, registered.word(0));
        assert_eq!(column.bounds(0), (6, 9));
        registered.set(1, false);
        column.clear(1, registered.word(0));
        assert_eq!(column.bounds(0), (6, 8));
        assert_eq!(column.range(&registered, &registered, None), (6, 100));
        assert_eq!(column.range(&registered, &registered, Some(1)), (1, 100));
        let mut some = registered.clone();
        some.set(64, false);
        some.set(63, false);
        assert_eq!(column.range(&some, &registered, None), (8, 8));
    }

    #[test]
    fn comparing_by_blocks_is_comparing_one_by_one() {
        let mut column = Column::<u64>::default();
        column.grow(4);
        let mut registered = Bits::empty(4);
        for slot in 0..200u32 {
            registered.set(slot, true);
            column.set(
                slot,
                u64::from(slot / 64 * 1000 + slot * 7 % 13),
                registered.word(slot as usize / 64),
            );
        }
        for least in [0, 5, 12, 13, 1000, 2006, 9999] {
            let mut left = registered.clone();
            column.keep_at_least(&mut left, least);
            let expected: Vec<u32> = (0..200).filter(|&slot| column.get(slot) >= least).collect();
            assert_eq!(left.iter().collect::<Vec<_>>(), expected, "{least}");
        }
    }
}
