//! Which rows of the replica are ours, and which one is which?

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    KEY, OWNER,
    desired::{Desired, key_of},
};
use crate::{
    replica::{Replica, Row, Watched},
    table::Identity,
};

struct InTable<'a> {
    watched: &'a Arc<Watched>,
    by_key: HashMap<&'a str, &'a Arc<Row>>,
    owned: HashSet<Uuid>,
    /// Ours, and not meant.
    beyond: HashSet<Uuid>,
    /// Those of them that are referred to.
    outside: HashMap<&'a str, &'a Arc<Row>>,
    /// Ours, and not desired or there twice.
    unwanted: Vec<&'a Arc<Row>>,
}

/// The rows of one owner.
pub(super) struct Ours<'a>(BTreeMap<&'static str, InTable<'a>>);

impl<'a> Ours<'a> {
    pub fn find(replica: &'a Replica, desired: &'a Desired) -> Self {
        let mut tables = BTreeMap::new();
        let outside = desired.outside();
        for watched in replica.tables() {
            let name = watched.spec.name;
            let mut table = InTable {
                watched,
                by_key: HashMap::new(),
                owned: HashSet::new(),
                beyond: HashSet::new(),
                outside: HashMap::new(),
                unwanted: Vec::new(),
            };
            if watched.spec.identity == Identity::Single {
                // Everybody's: it is found, and is never ours to remove.
                let first = replica.rows(name).next();
                table
                    .by_key
                    .extend(desired.table(name).next().map(|(key, _)| key).zip(first));
                tables.insert(name, table);
                continue;
            }
            for row in replica.rows(name) {
                let key = match mark(row, watched.spec.identity, desired.owner()) {
                    None => continue,
                    Some(Mark::Key(key)) => Some(key),
                    Some(Mark::KeyLost) => None,
                };
                table.owned.insert(row.uuid());
                if !desired.covers(key) {
                    table.beyond.insert(row.uuid());
                    if let Some(key) = key.filter(|key| outside.contains(key)) {
                        table.outside.entry(key).or_insert(row);
                    }
                    continue;
                }
                let wanted = key.filter(|key| desired.get(name, key).is_some());
                // In order of the UUIDs, so of two with one key it is always the same one that stays. Two there are
                // after a transaction that was taken for lost and was done after all.
                match wanted.filter(|key| !table.by_key.contains_key(key)) {
                    Some(key) => {
                        table.by_key.insert(key, row);
                    }
                    None => table.unwanted.push(row),
                }
            }
            tables.insert(name, table);
        }
        Self(tables)
    }

    /// The row of a key, if it is there.
    pub fn row(&self, table: &str, key: &str) -> Option<&'a Arc<Row>> {
        self.0.get(table)?.by_key.get(key).copied()
    }

    /// The row of a key that is not meant, if it is there.
    pub fn outside(&self, table: &str, key: &str) -> Option<&'a Arc<Row>> {
        self.0.get(table)?.outside.get(key).copied()
    }

    /// Whether a row carries our mark.
    pub fn owns(&self, table: &str, uuid: Uuid) -> bool {
        self.0.get(table).is_some_and(|table| table.owned.contains(&uuid))
    }

    /// Whether a row stays as it is: somebody else's, or ours and not meant.
    pub fn stands(&self, table: &str, uuid: Uuid) -> bool {
        let table = self.0.get(table);
        table.is_none_or(|table| !table.owned.contains(&uuid) || table.beyond.contains(&uuid))
    }

    /// What should go.
    pub fn unwanted(&self) -> impl Iterator<Item = (&'a Arc<Watched>, &'a Arc<Row>)> {
        self.0
            .values()
            .flat_map(|table| table.unwanted.iter().map(|row| (table.watched, *row)))
    }
}

/// What a row that is ours says of itself.
enum Mark<'a> {
    Key(&'a str),
    /// Somebody took the key away.
    KeyLost,
}

fn mark<'a>(row: &'a Row, identity: Identity, owner: &str) -> Option<Mark<'a>> {
    match identity {
        Identity::ExternalIds => {
            (row.external_id(OWNER)? == owner).then(|| row.external_id(KEY).map_or(Mark::KeyLost, Mark::Key))
        }
        Identity::Name => key_of(owner, row.name()?).map(Mark::Key),
        Identity::Single => None,
    }
}
