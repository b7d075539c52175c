//! Sets of hosts, one bit a slot.

/// Hosts in a block: as many as there are bits in a word.
pub(crate) const BLOCK: usize = 64;

/// A set of slots. All sets of one [`Hosts`](crate::hosts::Hosts) have the same number of words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bits(Vec<u64>);

fn place(slot: u32) -> (usize, u64) {
    (slot as usize / BLOCK, 1 << (slot % 64))
}

impl Bits {
    /// An empty set for so many blocks.
    pub(crate) fn empty(blocks: usize) -> Self {
        Self(vec![0; blocks])
    }

    pub(crate) fn grow(&mut self, blocks: usize) {
        self.0.resize(blocks, 0);
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.0
    }

    #[inline]
    pub(crate) fn word(&self, block: usize) -> u64 {
        self.0.get(block).copied().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn contains(&self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        self.word(word) & bit != 0
    }

    pub(crate) fn set(&mut self, slot: u32, member: bool) {
        let (word, bit) = place(slot);
        if let Some(word) = self.0.get_mut(word) {
            if member {
                *word |= bit;
            } else {
                *word &= !bit;
            }
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Keeps what is in `other` too.
    pub(crate) fn keep(&mut self, other: &Self) {
        for (at, word) in self.0.iter_mut().enumerate() {
            *word &= other.word(at);
        }
    }

    /// Takes out what is in `other`.
    pub(crate) fn drop_all(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= !other;
        }
    }

    /// Adds what is in `other`.
    pub(crate) fn add_all(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }

    /// Keeps the slots that `keep` says yes to.
    #[inline]
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        self.change(|block, word| {
            let mut left = 0;
            for slot in ones(block, word) {
                left |= u64::from(keep(slot)) << (slot % 64);
            }
            left
        });
    }

    /// Replaces every word that is not zero.
    #[inline]
    pub(crate) fn change(&mut self, mut new: impl FnMut(usize, u64) -> u64) {
        for (block, word) in self.0.iter_mut().enumerate() {
            if *word != 0 {
                *word = new(block, *word);
            }
        }
    }

    /// The slots in the set, smallest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().enumerate().flat_map(|(block, &word)| ones(block, word))
    }
}

/// The slots of the bits of one word.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "there are no more blocks than 32 bits have slots for"
)]
pub(crate) fn ones(block: usize, mut word: u64) -> impl Iterator<Item = u32> {
    let first = (block * BLOCK) as u32;
    std::iter::from_fn(move || {
        (word != 0).then(|| {
            let bit = word.trailing_zeros();
            word &= word - 1;
            first + bit
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(slots: &[u32]) -> Bits {
        let mut bits = Bits::empty(3);
        for &slot in slots {
            bits.set(slot, true);
        }
        bits
    }

    fn list(bits: &Bits) -> Vec<u32> {
        bits.iter().collect()
    }

    #[test]
    fn sets_are_cut_joined_and_listed_across_words() {
        let mut bits = set(&[0, 63, 64, 130]);
        assert_eq!((list(&bits), bits.count()), (vec![0, 63, 64, 130], 4));
        bits.drop_all(&set(&[0, 1]));
        bits.add_all(&set(&[2]));
        assert_eq!(list(&bits), [2, 63, 64, 130]);
        bits.keep(&set(&[64, 130, 131]));
        assert_eq!(list(&bits), [64, 130]);
        bits.retain(|slot| slot != 64);
        assert_eq!(list(&bits), [130]);
        bits.set(130, false);
        assert!(bits.count() == 0 && !bits.contains(130));
    }
}
