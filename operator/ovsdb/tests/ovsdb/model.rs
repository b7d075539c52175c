//! A database in a page: what RFC 7047 says that operations do, for plans to be tried on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Map as Members, Value as Json};
use uuid::Uuid;
use virga_ovsdb::{
    monitor::{Change, Update},
    northbound::TABLES,
    operation::{Condition, Mutation, Mutator, Operation},
    replica::Replica,
    schema::{Schema, TableSchema},
    value::{Atom, Map, Set, Value},
};

use crate::server::schema;

type Row = BTreeMap<Box<str>, Value>;

#[derive(Debug, Clone)]
pub struct Model {
    schema: Arc<Schema>,
    pub tables: BTreeMap<Box<str>, BTreeMap<Uuid, Row>>,
    next: u128,
}

/// Each reference of a row: table, UUID, and whether it is strong.
fn references(table: &TableSchema, row: &Row) -> Vec<(Box<str>, Uuid, bool)> {
    let mut found = Vec::new();
    for column in &table.columns {
        let Some(reference) = &column.kind.key.reference else {
            continue;
        };
        let atoms: Vec<&Atom> = match &row[&column.name] {
            Value::Atom(atom) => vec![atom],
            Value::Set(set) => set.iter().collect(),
            Value::Map(map) => map.iter().map(|(key, _)| key).collect(),
        };
        for atom in atoms {
            let Atom::Uuid(uuid) = atom else {
                panic!("{}.{} holds {atom}", table.name, column.name);
            };
            found.push((reference.table.clone(), *uuid, reference.strong));
        }
    }
    found
}

impl Model {
    pub fn new() -> Self {
        let schema = Arc::new(schema());
        let tables = schema
            .tables
            .keys()
            .map(|name| (name.clone(), BTreeMap::new()))
            .collect();
        Self {
            schema,
            tables,
            next: 0,
        }
    }

    pub fn replica(&self) -> Replica {
        let mut replica = Replica::new(Arc::clone(&self.schema), &TABLES);
        let mut updates = Vec::new();
        for spec in TABLES {
            for (uuid, row) in &self.tables[spec.name] {
                let columns = row.iter().filter(|(name, _)| spec.column(name).is_some());
                let columns: Members<String, Json> = columns
                    .map(|(name, value)| (name.to_string(), value.to_json()))
                    .collect();
                let change = Change::Whole(columns);
                updates.push(Update {
                    table: spec.name.into(),
                    uuid: *uuid,
                    change,
                });
            }
        }
        replica.apply(updates).unwrap();
        replica
    }

    /// Takes over what a replica has. What it does not watch is as by default.
    pub fn copy(&mut self, replica: &Replica) {
        for (name, rows) in &mut self.tables {
            let schema = &self.schema.tables[name];
            *rows = replica
                .rows(name)
                .map(|row| {
                    let value = |name: &str| row.value(name).cloned();
                    let columns = schema.columns.iter().map(|column| {
                        let value = value(&column.name).unwrap_or_else(|| Value::default_of(&column.kind));
                        (column.name.clone(), value)
                    });
                    (row.uuid(), columns.collect())
                })
                .collect();
        }
    }

    /// All operations or none.
    pub fn transact(&mut self, operations: &[Operation]) -> Result<(), String> {
        let mut after = self.clone();
        after.run(operations)?;
        after.commit()?;
        *self = after;
        Ok(())
    }

    fn run(&mut self, operations: &[Operation]) -> Result<(), String> {
        let mut names: HashMap<&str, Uuid> = HashMap::new();
        let mut fresh = Vec::new();
        for operation in operations {
            if let Operation::Insert { name, .. } = operation {
                self.next += 1;
                let uuid = Uuid::from_u128(self.next << 64 | 0x4000_8000_0000_0000);
                fresh.push(uuid);
                if let Some(name) = name
                    && names.insert(name, uuid).is_some()
                {
                    return Err(format!("duplicate uuid-name {name}"));
                }
            }
        }
        let mut fresh = fresh.into_iter();
        let schema = Arc::clone(&self.schema);
        for operation in operations {
            let Some(name) = operation.table() else {
                continue;
            };
            let table = schema.table(name).ok_or_else(|| format!("no table {name}"))?;
            let rows = self.tables.get_mut(name).unwrap();
            match operation {
                Operation::Insert { row, .. } => {
                    let blank = table
                        .columns
                        .iter()
                        .map(|column| (column.name.clone(), Value::default_of(&column.kind)));
                    let mut new: Row = blank.collect();
                    for (column, value) in row {
                        set(table, &mut new, column, resolve(value, &names)?)?;
                    }
                    rows.insert(fresh.next().unwrap(), new);
                }
                Operation::Update { conditions, row, .. } => {
                    if let Some(found) = one(rows, conditions) {
                        for (column, value) in row {
                            set(table, found, column, resolve(value, &names)?)?;
                        }
                    }
                }
                Operation::Mutate {
                    conditions, mutations, ..
                } => {
                    if let Some(found) = one(rows, conditions) {
                        for mutation in mutations {
                            mutate(table, found, mutation, &names)?;
                        }
                    }
                }
                Operation::Delete { conditions, .. } => {
                    rows.remove(&the_row(conditions));
                }
                other => panic!("plans have no {}", other.name()),
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), String> {
        let schema = Arc::clone(&self.schema);
        // Strong references first, also those of rows that are about to go by themselves.
        for (name, rows) in &self.tables {
            for (uuid, row) in rows {
                for (target, wanted, strong) in references(&schema.tables[name], row) {
                    if strong && !self.tables[&target].contains_key(&wanted) {
                        return Err(format!("referential integrity: {name} {uuid} needs {target} {wanted}"));
                    }
                }
            }
        }
        // Rows that nothing holds go, and then what they held.
        loop {
            let mut held: BTreeSet<(Box<str>, Uuid)> = BTreeSet::new();
            for (name, rows) in &self.tables {
                for row in rows.values() {
                    let strong = references(&schema.tables[name], row)
                        .into_iter()
                        .filter(|(_, _, strong)| *strong);
                    held.extend(strong.map(|(table, uuid, _)| (table, uuid)));
                }
            }
            let before: usize = self.tables.values().map(BTreeMap::len).sum();
            for (name, rows) in &mut self.tables {
                rows.retain(|uuid, _| schema.tables[name].root || held.contains(&(name.clone(), *uuid)));
            }
            let after: usize = self.tables.values().map(BTreeMap::len).sum();
            if before == after {
                break;
            }
        }
        let exists: BTreeSet<(Box<str>, Uuid)> = self
            .tables
            .iter()
            .flat_map(|(name, rows)| rows.keys().map(|uuid| (name.clone(), *uuid)))
            .collect();
        for (name, rows) in &mut self.tables {
            let table = &schema.tables[name];
            for (uuid, row) in rows.iter_mut() {
                for (target, wanted, strong) in references(table, row) {
                    if exists.contains(&(target.clone(), wanted)) {
                        continue;
                    }
                    if strong {
                        return Err(format!("referential integrity: {name} {uuid} needs {target} {wanted}"));
                    }
                    for value in row.values_mut() {
                        if let Value::Set(set) = value {
                            *set = set
                                .iter()
                                .filter(|atom| **atom != Atom::Uuid(wanted))
                                .cloned()
                                .collect();
                        }
                    }
                }
                for column in &table.columns {
                    let count = match &row[&column.name] {
                        Value::Atom(_) => 1,
                        Value::Set(set) => set.len(),
                        Value::Map(map) => map.len(),
                    };
                    if count < column.kind.min || count > column.kind.max {
                        return Err(format!("constraint: {name}.{} has {count}", column.name));
                    }
                }
            }
            for index in &table.indexes {
                let mut seen = BTreeSet::new();
                for row in rows.values() {
                    if !seen.insert(index.iter().map(|column| row[column].clone()).collect::<Vec<_>>()) {
                        return Err(format!("constraint: two rows of {name} with one {index:?}"));
                    }
                }
            }
        }
        Ok(())
    }
}

fn the_row(conditions: &[Condition]) -> Uuid {
    match conditions {
        [condition] if &*condition.column == "_uuid" => match &condition.value {
            Value::Atom(Atom::Uuid(uuid)) => *uuid,
            other => panic!("{other:?}"),
        },
        other => panic!("plans name one row: {other:?}"),
    }
}

fn one<'a>(rows: &'a mut BTreeMap<Uuid, Row>, conditions: &[Condition]) -> Option<&'a mut Row> {
    rows.get_mut(&the_row(conditions))
}

fn resolve(value: &Value, names: &HashMap<&str, Uuid>) -> Result<Value, String> {
    let atom = |atom: &Atom| match atom {
        Atom::Named(name) => names
            .get(&**name)
            .map(|uuid| Atom::Uuid(*uuid))
            .ok_or(format!("no row {name}")),
        other => Ok(other.clone()),
    };
    Ok(match value {
        Value::Atom(one) => Value::Atom(atom(one)?),
        Value::Set(set) => Value::Set(set.iter().map(atom).collect::<Result<Set, _>>()?),
        Value::Map(map) => Value::Map(map.clone()),
    })
}

fn set(table: &TableSchema, row: &mut Row, column: &str, value: Value) -> Result<(), String> {
    let schema = table.column(column).ok_or_else(|| format!("no column {column}"))?;
    let same = std::mem::discriminant(&Value::default_of(&schema.kind)) == std::mem::discriminant(&value);
    if !same {
        return Err(format!("{}.{column} can't be {value:?}", table.name));
    }
    row.insert(column.into(), value);
    Ok(())
}

fn mutate(table: &TableSchema, row: &mut Row, mutation: &Mutation, names: &HashMap<&str, Uuid>) -> Result<(), String> {
    let argument = resolve(&mutation.value, names)?;
    let new = match (&row[&mutation.column], mutation.mutator, &argument) {
        (Value::Set(now), Mutator::Insert, Value::Set(more)) => {
            Value::Set(now.iter().chain(more.iter()).cloned().collect())
        }
        (Value::Set(now), Mutator::Delete, Value::Set(less)) => {
            Value::Set(now.iter().filter(|atom| !less.contains(atom)).cloned().collect())
        }
        (Value::Map(now), Mutator::Insert, Value::Map(more)) => {
            // Keys that are there stay as they are.
            Value::Map(more.iter().chain(now.iter()).cloned().collect::<Map>())
        }
        (Value::Map(now), Mutator::Delete, Value::Set(keys)) => {
            Value::Map(now.iter().filter(|(key, _)| !keys.contains(key)).cloned().collect())
        }
        other => panic!("{other:?}"),
    };
    let min = table.column(&mutation.column).map_or(0, |column| column.kind.min);
    let count = match &new {
        Value::Atom(_) => 1,
        Value::Set(set) => set.len(),
        Value::Map(map) => map.len(),
    };
    if count < min {
        return Err(format!("constraint: {} has {count} in between", mutation.column));
    }
    row.insert(mutation.column.clone(), new);
    Ok(())
}
