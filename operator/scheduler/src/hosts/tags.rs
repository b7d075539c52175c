//! The hosts that have something: a trait, a metric.

use std::collections::HashMap;

use crate::bits::Bits;

/// The hosts that have something.
#[derive(Debug, Clone)]
pub(super) struct Tagged {
    pub(super) hosts: Bits,
    count: u32,
}

/// Moves a host from some tags to others; a tag without hosts is forgotten.
pub(super) fn retag<'a>(
    tags: &mut HashMap<String, Tagged>,
    blocks: usize,
    slot: u32,
    old: impl Iterator<Item = &'a String>,
    new: impl Iterator<Item = &'a String>,
) {
    for name in old {
        if let Some(tagged) = tags.get_mut(name) {
            tagged.hosts.set(slot, false);
            tagged.count -= 1;
            if tagged.count == 0 {
                tags.remove(name);
            }
        }
    }
    for name in new {
        let tagged = tags.entry(name.clone()).or_insert_with(|| Tagged {
            hosts: Bits::empty(blocks),
            count: 0,
        });
        tagged.hosts.set(slot, true);
        tagged.count += 1;
    }
}
