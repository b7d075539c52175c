//! Sets and maps of atoms, as sorted vectors: most have no element or one, and there are many.

use std::{borrow::Borrow, cmp::Ordering};

use super::Atom;

/// Different atoms, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Set(Vec<Atom>);

impl Set {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an atom is in it.
    pub fn contains(&self, atom: &Atom) -> bool {
        self.0.binary_search(atom).is_ok()
    }

    /// In order.
    pub fn iter(&self) -> std::slice::Iter<'_, Atom> {
        self.0.iter()
    }

    /// In order.
    pub fn as_slice(&self) -> &[Atom] {
        &self.0
    }

    /// What is in exactly one of the two: how `update2` writes a change.
    pub fn symmetric_difference(&self, other: &Self) -> Self {
        let only = |a: &Self, b: &Self| a.iter().filter(|atom| !b.contains(atom)).cloned().collect::<Vec<_>>();
        let mut atoms = only(self, other);
        atoms.extend(only(other, self));
        atoms.into_iter().collect()
    }
}

impl FromIterator<Atom> for Set {
    fn from_iter<I: IntoIterator<Item = Atom>>(atoms: I) -> Self {
        let mut atoms: Vec<Atom> = atoms.into_iter().collect();
        atoms.sort_unstable();
        atoms.dedup();
        atoms.shrink_to_fit();
        Self(atoms)
    }
}

impl<'a> IntoIterator for &'a Set {
    type Item = &'a Atom;
    type IntoIter = std::slice::Iter<'a, Atom>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Pairs with different keys, sorted by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Map(Vec<(Atom, Atom)>);

impl Map {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &Atom) -> Option<&Atom> {
        let at = self.0.binary_search_by(|(candidate, _)| candidate.cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// The value of a text key, if it is text too. Allocates nothing.
    pub fn text(&self, key: &str) -> Option<&str> {
        let at = self
            .0
            .binary_search_by(|(candidate, _)| match candidate {
                Atom::String(candidate) => Borrow::<str>::borrow(candidate).cmp(key),
                // Keys of one map are of one type, so the order of the variants decides for all of them alike.
                Atom::Integer(_) | Atom::Real(_) | Atom::Boolean(_) => Ordering::Less,
                Atom::Uuid(_) | Atom::Named(_) => Ordering::Greater,
            })
            .ok()?;
        match &self.0[at].1 {
            Atom::String(text) => Some(text),
            _ => None,
        }
    }

    /// In order of the keys.
    pub fn iter(&self) -> std::slice::Iter<'_, (Atom, Atom)> {
        self.0.iter()
    }

    /// The map after a change that `update2` wrote: a pair that is there goes, another value replaces, a new key comes.
    pub fn with_difference(&self, difference: &Self) -> Self {
        let mut pairs: Vec<(Atom, Atom)> = Vec::with_capacity(self.len() + difference.len());
        for (key, value) in self {
            match difference.get(key) {
                None => pairs.push((key.clone(), value.clone())),
                Some(changed) if changed == value => {}
                Some(changed) => pairs.push((key.clone(), changed.clone())),
            }
        }
        let new = difference.iter().filter(|(key, _)| self.get(key).is_none());
        pairs.extend(new.cloned());
        pairs.into_iter().collect()
    }
}

impl FromIterator<(Atom, Atom)> for Map {
    /// Of pairs with the same key the last one stays.
    fn from_iter<I: IntoIterator<Item = (Atom, Atom)>>(pairs: I) -> Self {
        let mut pairs: Vec<(Atom, Atom)> = pairs.into_iter().collect();
        // Stable: reversed, so that the last of equal keys comes first and survives.
        pairs.reverse();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|later, kept| later.0 == kept.0);
        pairs.shrink_to_fit();
        Self(pairs)
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a (Atom, Atom);
    type IntoIter = std::slice::Iter<'a, (Atom, Atom)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
