//! What should be there?

use std::collections::{BTreeMap, HashSet};

use super::{KEY, OWNER, RowId, feasible::atoms};
use crate::{
    table::{Identity, Ref, Table, TableSpec},
    value::{Atom, Map, Value},
};

/// Columns of a desired row. References to desired rows are [`Atom::Named`] with the key.
pub(super) type Columns = Vec<(&'static str, Value)>;

struct Rows {
    spec: &'static TableSpec,
    by_key: BTreeMap<Box<str>, Columns>,
}

/// Which keys are meant.
type Covers = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The rows that one owner wants to be in the database, and no others of its own: all of them, or a part.
pub struct Desired {
    owner: Box<str>,
    covers: Option<Covers>,
    tables: BTreeMap<&'static str, Rows>,
    twice: Vec<RowId>,
}

impl Desired {
    /// No rows: with this, all that the owner has is removed. The owner's name is unique to this installation.
    pub fn new(owner: impl Into<Box<str>>) -> Self {
        Self {
            owner: owner.into(),
            covers: None,
            tables: BTreeMap::new(),
            twice: Vec::new(),
        }
    }

    /// No rows of a part: what the owner has under keys for which `covers` is true is removed, and all else of its own is
    /// left as it is. Rows under other keys must not be inserted. They may be referred to by key: to those that are not
    /// there the reference is left out, and told as [`NoReferent`](super::Problem::NoReferent).
    pub fn part(owner: impl Into<Box<str>>, covers: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self {
            covers: Some(Box::new(covers)),
            ..Self::new(owner)
        }
    }

    /// Whether a row of the owner's is meant: by its key, if it still has one.
    pub(super) fn covers(&self, key: Option<&str>) -> bool {
        self.covers.as_ref().is_none_or(|covers| key.is_some_and(covers))
    }

    /// The keys of rows that are not meant and are referred to.
    pub(super) fn outside(&self) -> HashSet<&str> {
        let atoms = self
            .rows()
            .flat_map(|(_, _, columns)| columns)
            .flat_map(|(_, value)| atoms(value));
        let keys = atoms.filter_map(|atom| match atom {
            Atom::Named(key) => Some(&**key),
            _ => None,
        });
        keys.filter(|key| !self.covers(Some(key))).collect()
    }

    /// Whose rows these are.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Wants a row under a key that no other row of the table has, and stays the same for as long as the row should be
    /// the same. The answer is the way to refer to it.
    pub fn insert<T: Table>(&mut self, key: impl Into<Box<str>>, row: &T) -> Ref<T> {
        let key: Box<str> = key.into();
        let spec = T::SPEC;
        let mut columns = row.desired();
        match spec.identity {
            Identity::ExternalIds => {
                let own = [(OWNER, &*self.owner), (KEY, &*key)].map(|(k, v)| (Atom::from(k), Atom::from(v)));
                let position = columns.iter().position(|(column, _)| *column == "external_ids");
                let given = match position.map(|at| columns.swap_remove(at).1) {
                    Some(Value::Map(given)) => given,
                    _ => Map::default(),
                };
                // The later pair of one key stays: ours.
                let marks = given.iter().cloned().chain(own).collect();
                columns.push(("external_ids", Value::Map(marks)));
            }
            Identity::Name => {
                let name = name_of(&self.owner, &key);
                columns.push(("name", Value::Atom(Atom::String(name.into()))));
            }
            Identity::Single => {}
        }
        let rows = self.tables.entry(spec.name).or_insert_with(|| Rows {
            spec,
            by_key: BTreeMap::new(),
        });
        let taken = rows.by_key.contains_key(&key) || (spec.identity == Identity::Single && !rows.by_key.is_empty());
        if taken {
            let key = key.clone();
            self.twice.push(RowId { table: spec.name, key });
        } else {
            rows.by_key.insert(key.clone(), columns);
        }
        Ref::to(key)
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.tables.values().map(|rows| rows.by_key.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn twice(&self) -> impl Iterator<Item = RowId> + '_ {
        self.twice.iter().cloned()
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&'static TableSpec, &str, &Columns)> {
        self.tables
            .values()
            .flat_map(|rows| rows.by_key.iter().map(|(key, columns)| (rows.spec, &**key, columns)))
    }

    pub(super) fn table(&self, table: &str) -> impl Iterator<Item = (&str, &Columns)> {
        let rows = self.tables.get(table).into_iter();
        rows.flat_map(|rows| rows.by_key.iter().map(|(key, columns)| (&**key, columns)))
    }

    /// The table's and the key's own text, if it is desired.
    pub(super) fn find(&self, table: &str, key: &str) -> Option<(&'static str, &str)> {
        let rows = self.tables.get(table)?;
        let (key, _) = rows.by_key.get_key_value(key)?;
        Some((rows.spec.name, key))
    }

    pub(super) fn get(&self, table: &str, key: &str) -> Option<&Columns> {
        self.tables.get(table)?.by_key.get(key)
    }
}

/// How a row is called whose table has no marks.
fn name_of(owner: &str, key: &str) -> String {
    format!("{owner}:{key}")
}

/// The key in such a name, if it is this owner's.
pub(super) fn key_of<'a>(owner: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(owner)?.strip_prefix(':')
}
