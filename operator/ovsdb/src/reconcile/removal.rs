//! Which of our rows that nobody desires can go?
//!
//! Not those that somebody else's row needs, because the database would refuse the whole transaction. And not those in
//! which somebody else's row lives, because it would go with ours.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    Problem,
    desired::Desired,
    feasible::{Standing, atoms, reference},
    ours::Ours,
};
use crate::{
    operation::{Condition, Mutation, Mutator, Operation},
    replica::{Replica, Row, Watched},
    value::{Atom, Set, Value},
};

/// What goes and what stays.
#[derive(Default)]
pub(super) struct Removal<'a> {
    /// Rows to delete, by table.
    gone: BTreeSet<Id>,
    /// Rows that stay only because of what lives in them.
    trimmed: Vec<Found<'a>>,
    /// Rows that have to stay where they are, because somebody else's row lives in them.
    pub holding: HashSet<Uuid>,
    /// How many rows go, with those that nobody deletes and nobody refers to any more.
    pub count: usize,
}

/// A row's strong references: table and row.
fn strong<'a>(watched: &'a Watched, row: &'a Row) -> impl Iterator<Item = (&'a str, Uuid)> {
    strong_of(watched, row.values().map(|(column, value)| (&*column.name, value)))
}

fn strong_of<'a>(
    watched: &'a Watched,
    columns: impl Iterator<Item = (&'a str, &'a Value)>,
) -> impl Iterator<Item = (&'a str, Uuid)> {
    columns.flat_map(|(column, value)| {
        let reference = reference(&watched.schema, column).filter(|reference| reference.strong);
        reference.into_iter().flat_map(move |reference| {
            atoms(value).filter_map(|atom| match atom {
                Atom::Uuid(uuid) => Some((&*reference.table, *uuid)),
                _ => None,
            })
        })
    })
}

/// A row, and its table.
type Found<'a> = (&'a Arc<Watched>, &'a Arc<Row>);
/// A row by table and UUID.
type Id = (&'static str, Uuid);

/// What should go, by table.
struct Unwanted<'a>(HashMap<&'static str, BTreeMap<Uuid, Found<'a>>>);

impl<'a> Unwanted<'a> {
    fn of(replica: &'a Replica, desired: &Desired, ours: &Ours<'a>, standing: &Standing<'_>) -> Self {
        let mut tables: HashMap<_, BTreeMap<_, _>> = HashMap::new();
        // Also what is desired and is part of nothing.
        let orphans = replica.tables().flat_map(|watched| {
            let table = watched.spec.name;
            let lost = desired.table(table).map(|(key, _)| key);
            let lost = lost.filter(move |key| !standing.is_present(table, key) && !standing.is_frozen(table, key));
            lost.filter_map(move |key| Some((watched, ours.row(table, key)?)))
        });
        for (watched, row) in ours.unwanted().chain(orphans) {
            let table = tables.entry(watched.spec.name).or_default();
            table.insert(row.uuid(), (watched, row));
        }
        Self(tables)
    }

    fn find(&self, table: &str, uuid: Uuid) -> Option<(Id, Found<'a>)> {
        let found = *self.0.get(table)?.get(&uuid)?;
        Some(((found.0.spec.name, uuid), found))
    }

    fn iter(&self) -> impl Iterator<Item = (Id, Found<'a>)> + '_ {
        let tables = self.0.iter();
        tables.flat_map(|(table, rows)| rows.iter().map(|(uuid, found)| ((*table, *uuid), *found)))
    }
}

pub(super) fn decide<'a>(
    replica: &'a Replica,
    desired: &Desired,
    ours: &Ours<'a>,
    standing: &Standing<'_>,
    problems: &mut Vec<Problem>,
) -> Removal<'a> {
    let unwanted = Unwanted::of(replica, desired, ours, standing);
    let mut removal = Removal::default();
    if unwanted.0.is_empty() {
        return removal;
    }

    // What stays anyway, and what it needs of what should go.
    let mut needed: HashMap<Id, String> = HashMap::new();
    let mut queue = VecDeque::new();
    let need = |needed: &mut HashMap<Id, String>, queue: &mut VecDeque<_>, watched: &Watched, row: &Row| {
        for (table, uuid) in strong(watched, row) {
            if let Some((id, found)) = unwanted.find(table, uuid)
                && !needed.contains_key(&id)
            {
                needed.insert(id, format!("row {} of {}", row.uuid(), watched.spec.name));
                queue.push_back(found);
            }
        }
    };
    let frozen: HashSet<Uuid> = desired
        .rows()
        .filter(|(spec, key, _)| standing.is_frozen(spec.name, key))
        .filter_map(|(spec, key, _)| Some(ours.row(spec.name, key)?.uuid()))
        .collect();
    for watched in replica.tables() {
        let name = watched.spec.name;
        for row in replica.rows(name) {
            if !ours.owns(name, row.uuid()) || frozen.contains(&row.uuid()) {
                need(&mut needed, &mut queue, watched, row);
            }
        }
    }
    for watched in replica.tables() {
        let name = watched.spec.name;
        for (key, columns) in desired.table(name).filter(|(key, _)| standing.is_present(name, key)) {
            // Whoever names a row by its UUID knows why.
            for (table, uuid) in strong_of(watched, columns.iter().map(|(column, value)| (*column, value))) {
                if let Some((id, found)) = unwanted.find(table, uuid)
                    && needed.insert(id, format!("{name} {key}")).is_none()
                {
                    queue.push_back(found);
                }
            }
        }
    }
    while let Some((watched, row)) = queue.pop_front() {
        need(&mut needed, &mut queue, watched, row);
    }

    // Which of them somebody else's row lives in, and which of them those live in.
    let mut holders: BTreeMap<Id, String> = BTreeMap::new();
    let mut parents: HashMap<Id, Vec<Id>> = HashMap::new();
    for (id, (watched, row)) in unwanted.iter() {
        for (table, uuid) in strong(watched, row) {
            if let Some((child, _)) = unwanted.find(table, uuid) {
                parents.entry(child).or_default().push(id);
            }
            let lives_in_us = replica.schema().table(table).is_some_and(|table| !table.root);
            let watched = replica.row(table, uuid).is_some();
            // Of a table that is not watched nobody knows whose the row is, and ours are only in watched ones.
            if lives_in_us && !(watched && ours.owns(table, uuid)) {
                holders.insert(id, format!("row {uuid} of {table}"));
            }
        }
    }
    let mut queue: VecDeque<Id> = holders.keys().copied().collect();
    while let Some(id) = queue.pop_front() {
        for parent in parents.get(&id).into_iter().flatten() {
            if !holders.contains_key(parent) {
                holders.insert(*parent, format!("row {} of {}", id.1, id.0));
                queue.push_back(*parent);
            }
        }
    }
    removal.holding = holders.keys().map(|(_, uuid)| *uuid).collect();

    let mut leaving = Vec::new();
    for (id, (watched, row)) in unwanted.iter() {
        let (table, uuid) = id;
        if holders.contains_key(&id) {
            removal.trimmed.push((watched, row));
        }
        if let Some(by) = needed.remove(&id) {
            problems.push(Problem::Needed { table, uuid, by });
        } else if let Some(held) = holders.remove(&id) {
            problems.push(Problem::Holds { table, uuid, held });
        } else {
            removal.count += 1;
            leaving.push((id, watched, row));
            if watched.schema.root {
                removal.gone.insert(id);
            }
        }
    }
    // The server minds strong references before it takes away what nothing refers to. So a row that goes by itself is
    // deleted too if it refers to one that is deleted.
    loop {
        let before = removal.gone.len();
        for (id, watched, row) in &leaving {
            if strong(watched, row).any(|(table, uuid)| {
                let target = unwanted.find(table, uuid);
                target.is_some_and(|(target, _)| removal.gone.contains(&target))
            }) {
                removal.gone.insert(*id);
            }
        }
        if removal.gone.len() == before {
            break;
        }
    }
    removal
}

impl Removal<'_> {
    /// Takes what goes out of our rows that stay, and deletes.
    pub fn operations(&self, ours: &Ours<'_>) -> Vec<Operation> {
        let mut operations = Vec::new();
        for (watched, row) in &self.trimmed {
            let mutations: Vec<Mutation> = row
                .values()
                .filter_map(|(column, value)| {
                    let reference = column.kind.key.reference.as_ref()?;
                    let goes = |atom: &&Atom| match atom {
                        Atom::Uuid(uuid) => ours.owns(&reference.table, *uuid) && !self.holding.contains(uuid),
                        _ => false,
                    };
                    // Only of a set that may become empty.
                    let Value::Set(set) = value else {
                        return None;
                    };
                    let gone: Set = set.iter().filter(goes).cloned().collect();
                    (!gone.is_empty() && column.kind.min == 0)
                        .then(|| Mutation::new(&column.name, Mutator::Delete, Value::Set(gone)))
                })
                .collect();
            if !mutations.is_empty() {
                operations.push(Operation::Mutate {
                    table: watched.spec.name.into(),
                    conditions: vec![Condition::row(row.uuid())],
                    mutations,
                });
            }
        }
        operations.extend(self.gone.iter().map(|(table, uuid)| Operation::Delete {
            table: (*table).into(),
            conditions: vec![Condition::row(*uuid)],
        }));
        operations
    }
}
