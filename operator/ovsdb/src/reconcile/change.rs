//! How does a row become what is desired? As few and as small operations as do it.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{
    MARK,
    desired::{Columns, Desired},
    feasible::{Standing, is_blank, reference},
    ours::Ours,
};
use crate::{
    operation::{self, Condition, Mutation, Mutator, Operation},
    replica::{Row, Watched},
    schema::{ColumnSchema, Reference},
    table::{Extent, Identity},
    value::{Atom, Map, Set, Value},
};

/// What is known when rows are changed.
pub(super) struct Change<'a> {
    pub desired: &'a Desired,
    pub ours: &'a Ours<'a>,
    pub standing: &'a Standing<'a>,
    /// Rows of ours that should go and have to stay where they are.
    pub stays: &'a HashSet<Uuid>,
    /// How this transaction names the rows that it inserts.
    pub names: HashMap<(&'static str, &'a str), Box<str>>,
}

/// What happens to one column.
enum Step {
    Set(Value),
    Mutate(Vec<Mutation>),
}

impl Change<'_> {
    /// A row that is not there.
    pub fn insert(&self, watched: &Watched, key: &str, columns: &Columns) -> Operation {
        let mut row = operation::Columns::new();
        for (column, value) in columns {
            let Some(schema) = watched.schema.column(column) else {
                continue;
            };
            let value = self.resolve(watched, schema, value);
            if !is_blank(&value) {
                row.push(((*column).into(), value));
            }
        }
        Operation::Insert {
            table: watched.spec.name.into(),
            row,
            name: self.names.get(&(watched.spec.name, key)).cloned(),
        }
    }

    /// A row that is there: at most one update and one mutation.
    pub fn update(&self, watched: &Watched, row: &Row, columns: &Columns) -> Vec<Operation> {
        let mut set = operation::Columns::new();
        let mut mutations = Vec::new();
        for (column, wanted) in columns {
            let (Some(schema), Some(current)) = (watched.schema.column(column), row.value(column)) else {
                continue;
            };
            // Most columns of most rows: nothing to copy.
            if current == wanted {
                continue;
            }
            let extent = watched.spec.column(column).map_or(Extent::Whole, |spec| spec.extent);
            let wanted = self.resolve(watched, schema, wanted);
            match self.step(watched, schema, extent, current, wanted) {
                None => {}
                Some(Step::Set(value)) => set.push(((*column).into(), value)),
                Some(Step::Mutate(steps)) => mutations.extend(steps),
            }
        }
        let conditions = || vec![Condition::row(row.uuid())];
        let table = || watched.spec.name.into();
        let update = (!set.is_empty()).then(|| Operation::Update {
            table: table(),
            conditions: conditions(),
            row: set,
        });
        let mutate = (!mutations.is_empty()).then(|| Operation::Mutate {
            table: table(),
            conditions: conditions(),
            mutations,
        });
        update.into_iter().chain(mutate).collect()
    }

    /// Keys become UUIDs of rows that are there, or names of rows that come. References to what can't be are left out.
    fn resolve(&self, watched: &Watched, schema: &ColumnSchema, value: &Value) -> Value {
        let Some(reference) = reference(&watched.schema, &schema.name) else {
            return value.clone();
        };
        match value {
            Value::Atom(atom) => Value::Atom(self.resolve_atom(reference, atom).unwrap_or_else(|| atom.clone())),
            Value::Set(set) => Value::Set(
                set.iter()
                    .filter_map(|atom| self.resolve_atom(reference, atom))
                    .collect(),
            ),
            Value::Map(map) => {
                let pair =
                    |(k, v): &(Atom, Atom)| Some((self.resolve_atom(reference, k)?, self.resolve_atom(reference, v)?));
                Value::Map(map.iter().filter_map(pair).collect())
            }
        }
    }

    fn resolve_atom(&self, reference: &Reference, atom: &Atom) -> Option<Atom> {
        let Atom::Named(key) = atom else {
            return Some(atom.clone());
        };
        let Some((table, key)) = self.desired.find(&reference.table, key) else {
            return self
                .ours
                .outside(&reference.table, key)
                .map(|row| Atom::Uuid(row.uuid()));
        };
        if let Some(name) = self.names.get(&(table, key)) {
            return Some(Atom::Named(name.clone()));
        }
        let is_there = self.standing.is_present(table, key) || self.standing.is_frozen(table, key);
        let row = self.ours.row(table, key).filter(|_| is_there)?;
        Some(Atom::Uuid(row.uuid()))
    }

    fn step(
        &self,
        watched: &Watched,
        schema: &ColumnSchema,
        extent: Extent,
        current: &Value,
        wanted: Value,
    ) -> Option<Step> {
        // The name that is the row's identity is as it is.
        if extent == Extent::Observed && watched.spec.identity == Identity::Name {
            return None;
        }
        match (current, wanted) {
            (Value::Map(current), Value::Map(wanted)) => {
                let goes = |key: &Atom| match extent {
                    Extent::Whole => true,
                    Extent::Marked => matches!(key, Atom::String(key) if key.starts_with(MARK)),
                    Extent::Given | Extent::Observed => false,
                };
                map_step(schema, extent, current, wanted, goes)
            }
            (Value::Set(current), Value::Set(wanted)) if schema.kind.max > 1 => {
                let reference = schema.kind.key.reference.as_ref();
                // Other people's rows stay where they are, and ours that must not go yet.
                let stays = |atom: &Atom| match (reference, atom) {
                    (Some(reference), Atom::Uuid(uuid)) => {
                        !self.ours.owns(&reference.table, *uuid) || self.stays.contains(uuid)
                    }
                    _ => false,
                };
                set_step(schema, reference.is_some(), current, wanted, stays)
            }
            (current, wanted) => (*current != wanted).then_some(Step::Set(wanted)),
        }
    }
}

fn mutations(column: &str, steps: [(Mutator, Value); 2]) -> Vec<Mutation> {
    let some = steps.into_iter().filter(|(_, value)| !is_blank(value));
    some.map(|(mutator, value)| Mutation::new(column, mutator, value))
        .collect()
}

fn set_step(
    schema: &ColumnSchema,
    shared: bool,
    current: &Set,
    wanted: Set,
    stays: impl Fn(&Atom) -> bool,
) -> Option<Step> {
    let new: Set = wanted.iter().filter(|atom| !current.contains(atom)).cloned().collect();
    let gone: Set = current
        .iter()
        .filter(|atom| !wanted.contains(atom) && !stays(atom))
        .cloned()
        .collect();
    let differ = new.len() + gone.len();
    if differ == 0 {
        return None;
    }
    // A set that is ours alone may be written anew where that is shorter.
    if !shared && differ >= wanted.len() {
        return Some(Step::Set(Value::Set(wanted)));
    }
    // First what comes: the server minds the fewest and most elements after each step.
    let steps = [(Mutator::Insert, Value::Set(new)), (Mutator::Delete, Value::Set(gone))];
    Some(Step::Mutate(mutations(&schema.name, steps)))
}

fn map_step(
    schema: &ColumnSchema,
    extent: Extent,
    current: &Map,
    wanted: Map,
    goes: impl Fn(&Atom) -> bool,
) -> Option<Step> {
    let differs = |key: &Atom, value: &Atom| current.get(key).is_none_or(|now| now != value);
    let new: Map = wanted.iter().filter(|(k, v)| differs(k, v)).cloned().collect();
    let gone = current.iter().map(|(key, _)| key).filter(|key| match wanted.get(key) {
        // An insertion leaves keys alone that are there, so the old pair goes first.
        Some(_) => new.get(key).is_some(),
        None => goes(key),
    });
    let gone: Set = gone.cloned().collect();
    let differ = new.len() + gone.len();
    if differ == 0 {
        return None;
    }
    if extent == Extent::Whole && (differ >= wanted.len() || schema.kind.min > 0) {
        return Some(Step::Set(Value::Map(wanted)));
    }
    let steps = [(Mutator::Delete, Value::Set(gone)), (Mutator::Insert, Value::Map(new))];
    Some(Step::Mutate(mutations(&schema.name, steps)))
}
