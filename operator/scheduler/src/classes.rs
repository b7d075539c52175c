//! Hosts that are alike in something, so that what is true of one is found out once for all.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::bits::Bits;

/// The number of no class.
const NONE: u32 = u32::MAX;
/// With fewer classes than this, each one's set of hosts is cut out; with more, each host's class is looked up.
const FEW: usize = 48;

/// Which hosts have which value of `T`. A value that no host has any more is forgotten.
#[derive(Debug, Clone)]
pub(crate) struct Classes<T> {
    blocks: usize,
    of: Vec<u32>,
    list: Vec<Option<Class<T>>>,
    by_value: HashMap<Arc<T>, u32>,
    free: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Class<T> {
    value: Arc<T>,
    hosts: Bits,
    count: u32,
}

impl<T> Default for Classes<T> {
    fn default() -> Self {
        Self {
            blocks: 0,
            of: Vec::new(),
            list: Vec::new(),
            by_value: HashMap::new(),
            free: Vec::new(),
        }
    }
}

impl<T: Eq + Hash> Classes<T> {
    pub(crate) fn grow(&mut self, blocks: usize) {
        self.blocks = blocks;
        self.of.resize(blocks * 64, NONE);
        for class in self.list.iter_mut().flatten() {
            class.hosts.grow(blocks);
        }
    }

    /// Puts a host into the class of a value, and gives back the one copy that is kept of it.
    pub(crate) fn put(&mut self, slot: u32, value: T) -> Arc<T> {
        let known = self
            .by_value
            .get_key_value(&value)
            .map(|(value, &number)| (value.clone(), number));
        let (value, number) = known.unwrap_or_else(|| self.open(value));
        if self.of[slot as usize] != number {
            self.clear(slot);
            self.of[slot as usize] = number;
            if let Some(Some(class)) = self.list.get_mut(number as usize) {
                class.hosts.set(slot, true);
                class.count += 1;
            }
        }
        value
    }

    fn open(&mut self, value: T) -> (Arc<T>, u32) {
        let value = Arc::new(value);
        let class = Some(Class {
            value: value.clone(),
            hosts: Bits::empty(self.blocks),
            count: 0,
        });
        let number = if let Some(number) = self.free.pop() {
            self.list[number as usize] = class;
            number
        } else {
            self.list.push(class);
            // There are never more classes than hosts, and one more while one changes.
            u32::try_from(self.list.len() - 1).unwrap_or(NONE)
        };
        self.by_value.insert(value.clone(), number);
        (value, number)
    }

    /// Takes a host out of its class.
    pub(crate) fn clear(&mut self, slot: u32) {
        let number = std::mem::replace(&mut self.of[slot as usize], NONE);
        let Some(entry) = self.list.get_mut(number as usize) else {
            return;
        };
        let Some(class) = entry else { return };
        class.hosts.set(slot, false);
        class.count -= 1;
        if class.count == 0 {
            self.by_value.remove(&class.value);
            *entry = None;
            self.free.push(number);
        }
    }

    /// The value of a host.
    #[inline]
    pub(crate) fn of(&self, slot: u32) -> Option<&T> {
        let number = self.of.get(slot as usize)?;
        Some(&self.list.get(*number as usize)?.as_ref()?.value)
    }

    /// The hosts that have a value.
    pub(crate) fn find<Q>(&self, value: &Q) -> Option<&Bits>
    where
        Arc<T>: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let number = self.by_value.get(value)?;
        Some(&self.list.get(*number as usize)?.as_ref()?.hosts)
    }

    /// Keeps the hosts whose value passes.
    pub(crate) fn keep(&self, left: &mut Bits, mut passes: impl FnMut(&T) -> bool) {
        if self.list.len() <= FEW {
            for class in self.list.iter().flatten() {
                if !passes(&class.value) {
                    left.drop_all(&class.hosts);
                }
            }
            return;
        }
        let passing: Vec<bool> = self
            .list
            .iter()
            .map(|class| class.as_ref().is_none_or(|class| passes(&class.value)))
            .collect();
        left.retain(|slot| {
            self.of
                .get(slot as usize)
                .is_none_or(|&number| passing.get(number as usize).copied().unwrap_or(true))
        });
    }

    /// The values that hosts have.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> + '_ {
        self.list.iter().flatten().map(|class| &*class.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_change_classes_and_an_empty_class_is_forgotten() {
        let mut classes = Classes::<u32>::default();
        classes.grow(1);
        classes.put(0, 7);
        classes.put(1, 7);
        classes.put(2, 9);
        assert_eq!(classes.find(&7).unwrap().iter().collect::<Vec<_>>(), [0, 1]);
        classes.put(0, 9);
        classes.clear(1);
        assert_eq!((classes.of(0), classes.of(1)), (Some(&9), None));
        assert!(classes.find(&7).is_none());
        classes.put(3, 11);
        assert_eq!(classes.list.len(), 2, "the number is used again");
    }

    #[test]
    fn many_classes_are_kept_or_dropped_as_few_are() {
        for modulus in [3, 200] {
            let mut classes = Classes::<u32>::default();
            classes.grow(8);
            let mut left = Bits::empty(8);
            for slot in 0..500 {
                classes.put(slot, slot % modulus);
                left.set(slot, true);
            }
            classes.keep(&mut left, |value| value % 2 == 0);
            let expected: Vec<u32> = (0..500).filter(|slot| slot % modulus % 2 == 0).collect();
            assert_eq!(left.iter().collect::<Vec<_>>(), expected);
        }
    }
}
