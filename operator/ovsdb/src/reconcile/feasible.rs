//! Which of the desired rows can be?

use std::collections::{BTreeMap, HashSet, VecDeque};

use uuid::Uuid;

use super::{Problem, RowId, desired::Columns, desired::Desired, ours::Ours};
use crate::{
    replica::{Replica, Row, Watched},
    schema::{Reference, TableSchema},
    table::Identity,
    value::{Atom, Value},
};

/// A desired row by table and key.
type Id<'a> = (&'static str, &'a str);

/// What becomes of each desired row.
pub(super) struct Standing<'a> {
    /// They are made as desired.
    present: HashSet<Id<'a>>,
    /// They are there and can't be as desired: they are left as they are.
    frozen: HashSet<Id<'a>>,
}

impl Standing<'_> {
    /// Whether the row is made as desired.
    pub fn is_present(&self, table: &'static str, key: &str) -> bool {
        self.present.contains(&(table, key))
    }

    /// Whether the row is left as it is.
    pub fn is_frozen(&self, table: &'static str, key: &str) -> bool {
        self.frozen.contains(&(table, key))
    }

    fn is_there(&self, id: &Id<'_>) -> bool {
        self.present.contains(id) || self.frozen.contains(id)
    }
}

/// The references in a value.
pub(super) fn atoms(value: &Value) -> impl Iterator<Item = &Atom> {
    let (one, many, pairs) = match value {
        Value::Atom(atom) => (Some(atom), &[][..], None),
        Value::Set(set) => (None, set.as_slice(), None),
        Value::Map(map) => (None, &[][..], Some(map.iter().flat_map(|(k, v)| [k, v]))),
    };
    one.into_iter().chain(many).chain(pairs.into_iter().flatten())
}

/// What a column of a table points to.
pub(super) fn reference<'a>(table: &'a TableSchema, column: &str) -> Option<&'a Reference> {
    let kind = &table.column(column)?.kind;
    kind.key
        .reference
        .as_ref()
        .or_else(|| kind.value.as_ref().and_then(|value| value.reference.as_ref()))
}

/// Whether a value is what a column holds that nobody has set.
pub(super) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Set(set) => set.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Atom(Atom::Integer(number)) => *number == 0,
        Value::Atom(Atom::Real(number)) => number.get() == 0.0,
        Value::Atom(Atom::Boolean(flag)) => !flag,
        Value::Atom(Atom::String(text)) => text.is_empty(),
        Value::Atom(Atom::Uuid(uuid)) => uuid.is_nil(),
        Value::Atom(Atom::Named(_)) => false,
    }
}

pub(super) fn judge<'a>(
    replica: &'a Replica,
    desired: &'a Desired,
    ours: &Ours<'a>,
    problems: &mut Vec<Problem>,
) -> Standing<'a> {
    let mut standing = Standing {
        present: HashSet::new(),
        frozen: HashSet::new(),
    };
    let watched: BTreeMap<&str, &Watched> = replica.tables().map(|table| (table.spec.name, &**table)).collect();
    for (spec, key, columns) in desired.rows() {
        let row = || RowId {
            table: spec.name,
            key: key.into(),
        };
        let Some(table) = watched.get(spec.name) else {
            problems.push(Problem::NoTable(row()));
            continue;
        };
        standing.present.insert((spec.name, key));
        for (column, value) in columns {
            if table.schema.column(column).is_none() && !is_blank(value) {
                problems.push(Problem::NoColumn { row: row(), column });
            }
        }
    }
    let freeze = |standing: &mut Standing<'a>, id: Id<'a>| {
        standing.present.remove(&id);
        if ours.row(id.0, id.1).is_some() {
            standing.frozen.insert(id);
        }
    };
    for table in watched.values() {
        for (key, problem) in taken(table, replica, desired, ours) {
            freeze(&mut standing, (table.spec.name, key));
            problems.push(problem);
        }
    }
    // A row that can't be may take others with it. Each round takes at least one, so there is an end.
    loop {
        let lost = incomplete(&watched, desired, ours, &standing, problems);
        for id in &lost {
            freeze(&mut standing, *id);
        }
        let alive = alive(&watched, desired, &standing);
        let orphans: Vec<Id<'a>> = standing
            .present
            .iter()
            .filter(|id| !alive.contains(*id))
            .copied()
            .collect();
        for (table, key) in &orphans {
            // Also if it is there: it goes with whatever held it.
            standing.present.remove(&(*table, *key));
            let key = (*key).into();
            problems.push(Problem::Orphan(RowId { table, key }));
        }
        if lost.is_empty() && orphans.is_empty() {
            break;
        }
    }
    without_referent(&watched, desired, ours, &standing, problems);
    standing
}

/// Rows whose unique columns another row has: one that is not ours, or one of ours with a lower key.
fn taken<'a>(table: &Watched, replica: &'a Replica, desired: &'a Desired, ours: &Ours<'a>) -> Vec<(&'a str, Problem)> {
    let mut found = Vec::new();
    let name = table.spec.name;
    if table.spec.identity == Identity::Single || desired.table(name).next().is_none() {
        return found;
    }
    for index in &table.schema.indexes {
        if index.iter().any(|column| table.spec.column(column).is_none()) {
            continue;
        }
        let mut holders: BTreeMap<Vec<Option<&Value>>, Holder<'_>> = BTreeMap::new();
        for row in replica.rows(name).filter(|row| ours.stands(name, row.uuid())) {
            holders.insert(index_value(index, None, Some(row)), Holder::Foreign(row.uuid()));
        }
        for (key, columns) in desired.table(name) {
            let value = index_value(index, Some(columns), ours.row(name, key).map(|row| &**row));
            if let Some(holder) = holders.get(&value) {
                let problem = Problem::Taken {
                    row: RowId {
                        table: name,
                        key: key.into(),
                    },
                    columns: index.join(", "),
                    by: match holder {
                        Holder::Foreign(uuid) if ours.owns(name, *uuid) => format!("row {uuid} of ours"),
                        Holder::Foreign(uuid) => format!("row {uuid}, which is not ours"),
                        Holder::Desired(key) => format!("{key}, which is desired too"),
                    },
                };
                found.push((key, problem));
            } else {
                holders.insert(value, Holder::Desired(key));
            }
        }
    }
    found
}

/// Who has the values of an index.
enum Holder<'a> {
    Foreign(Uuid),
    Desired(&'a str),
}

/// The columns of an index: as desired, else as they are.
fn index_value<'v>(index: &[Box<str>], desired: Option<&'v Columns>, row: Option<&'v Row>) -> Vec<Option<&'v Value>> {
    let value = |column: &str| {
        let wanted = desired.and_then(|columns| columns.iter().find(|(name, _)| *name == column));
        wanted
            .map(|(_, value)| value)
            .or_else(|| row.and_then(|row| row.value(column)))
    };
    index.iter().map(|column| value(column)).collect()
}

/// Rows that lack a reference that the schema demands, because its row can't be.
fn incomplete<'a>(
    watched: &BTreeMap<&str, &Watched>,
    desired: &'a Desired,
    ours: &Ours<'a>,
    standing: &Standing<'a>,
    problems: &mut Vec<Problem>,
) -> Vec<Id<'a>> {
    let mut lost = Vec::new();
    for (spec, key, columns) in desired.rows() {
        if !standing.is_present(spec.name, key) {
            continue;
        }
        let Some(table) = watched.get(spec.name) else {
            continue;
        };
        for column in table.schema.columns.iter().filter(|column| column.kind.min > 0) {
            let Some((name, value)) = columns.iter().find(|(name, _)| **name == *column.name) else {
                continue;
            };
            let Some(reference) = reference(&table.schema, name) else {
                continue;
            };
            let is_there = |atom: &Atom| match atom {
                Atom::Named(key) => match referent(desired, reference, key) {
                    Some(id) => standing.is_there(&id),
                    None => ours.outside(&reference.table, key).is_some(),
                },
                _ => true,
            };
            if !atoms(value).any(is_there) {
                lost.push((spec.name, key));
                let row = RowId {
                    table: spec.name,
                    key: key.into(),
                };
                problems.push(Problem::Incomplete { row, column: name });
                break;
            }
        }
    }
    lost
}

/// The desired row that a reference names.
fn referent<'a>(desired: &'a Desired, reference: &Reference, key: &str) -> Option<Id<'a>> {
    desired.find(&reference.table, key)
}

/// Rows that live: those of root tables, and what they refer to strongly.
fn alive<'a>(watched: &BTreeMap<&str, &Watched>, desired: &'a Desired, standing: &Standing<'a>) -> HashSet<Id<'a>> {
    let root = |table: &str| watched.get(table).is_some_and(|table| table.schema.root);
    let all = standing.present.iter().chain(&standing.frozen).copied();
    let mut queue: VecDeque<Id<'a>> = all.filter(|(table, _)| root(table)).collect();
    // Frozen ones have shown that they live.
    queue.extend(standing.frozen.iter().copied());
    let mut alive: HashSet<Id<'a>> = queue.iter().copied().collect();
    while let Some((name, key)) = queue.pop_front() {
        let (Some(table), Some(columns)) = (watched.get(name), desired.get(name, key)) else {
            continue;
        };
        for (column, value) in columns {
            let Some(reference) = reference(&table.schema, column).filter(|reference| reference.strong) else {
                continue;
            };
            for atom in atoms(value) {
                let Atom::Named(key) = atom else {
                    continue;
                };
                if let Some(id) = referent(desired, reference, key).filter(|id| standing.is_there(id))
                    && alive.insert(id)
                {
                    queue.push_back(id);
                }
            }
        }
    }
    alive
}

/// References that name what nobody desires.
fn without_referent(
    watched: &BTreeMap<&str, &Watched>,
    desired: &Desired,
    ours: &Ours<'_>,
    standing: &Standing<'_>,
    problems: &mut Vec<Problem>,
) {
    for (spec, row, columns) in desired.rows() {
        let Some(table) = watched.get(spec.name).filter(|_| standing.is_present(spec.name, row)) else {
            continue;
        };
        for (column, value) in columns {
            let Some(reference) = reference(&table.schema, column) else {
                continue;
            };
            for atom in atoms(value) {
                let Atom::Named(key) = atom else {
                    continue;
                };
                if referent(desired, reference, key).is_none() && ours.outside(&reference.table, key).is_none() {
                    problems.push(Problem::NoReferent {
                        row: RowId {
                            table: spec.name,
                            key: row.into(),
                        },
                        column,
                        key: key.clone(),
                    });
                }
            }
        }
    }
}
