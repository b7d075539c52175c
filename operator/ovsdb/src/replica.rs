//! What is in the database? A copy of the watched tables in memory, kept up to date by the server's notifications.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map as Members, Value as Json};
use uuid::Uuid;

use crate::{
    monitor::{Change, Update},
    schema::{ColumnSchema, Schema, TableSchema},
    table::{Column, Table, TableSpec},
    value::{self, Atom, Value},
};

/// Why the server's changes don't fit what is here. Only a new beginning helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A table or column that nobody asked for.
    #[error("the server tells of {0}, which is not watched")]
    NotWatched(String),
    /// A row is changed or removed that is not there.
    #[error("the server changes row {uuid} of {table}, which is not here")]
    NoSuchRow {
        /// The table.
        table: String,
        /// The row.
        uuid: Uuid,
    },
    /// A value that is not of its column's type.
    #[error("reading column {table}.{column} of row {uuid}")]
    Value {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The row.
        uuid: Uuid,
        /// What is wrong.
        source: value::Error,
    },
}

/// Why a row can't be read as a struct.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {table}.{column} of row {uuid} holds {found}, which is not one of the values that are known")]
pub struct ReadError {
    table: String,
    column: String,
    uuid: Uuid,
    found: String,
}

/// A watched table: its schema, and which of its columns are here.
#[derive(Debug, PartialEq, Eq)]
pub struct Watched {
    /// What is used of it.
    pub spec: &'static TableSpec,
    /// All that the server says of it.
    pub schema: Arc<TableSchema>,
    /// The columns that are here, sorted by name.
    pub columns: Vec<ColumnSchema>,
}

impl Watched {
    fn position(&self, column: &str) -> Option<usize> {
        self.columns.binary_search_by(|known| (*known.name).cmp(column)).ok()
    }
}

/// A row. Rows don't change: a changed row is another one with the same UUID.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    table: Arc<Watched>,
    uuid: Uuid,
    values: Box<[Value]>,
}

impl Row {
    /// Its UUID.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Its table.
    pub fn table(&self) -> &Watched {
        &self.table
    }

    /// A column; `None` if it is not watched, or this database does not have it.
    pub fn value(&self, column: &str) -> Option<&Value> {
        self.table.position(column).map(|at| &self.values[at])
    }

    /// All columns that are watched.
    pub fn values(&self) -> impl Iterator<Item = (&ColumnSchema, &Value)> {
        self.table.columns.iter().zip(&self.values)
    }

    /// A column as a Rust type. One that the database does not have is as by default.
    pub fn get<T: Column>(&self, column: &str) -> Result<T, ReadError> {
        let Some(value) = self.value(column) else {
            return Ok(T::default());
        };
        T::from_value(value).ok_or_else(|| ReadError {
            table: self.table.spec.name.to_owned(),
            column: column.to_owned(),
            uuid: self.uuid,
            found: value::start_of(&value.to_json()),
        })
    }

    /// A value of the column `external_ids`.
    pub fn external_id(&self, key: &str) -> Option<&str> {
        match self.value("external_ids")? {
            Value::Map(map) => map.text(key),
            _ => None,
        }
    }

    /// The column `name`.
    pub fn name(&self) -> Option<&str> {
        match self.value("name")? {
            Value::Atom(Atom::String(name)) => Some(name),
            _ => None,
        }
    }

    fn build(table: &Arc<Watched>, uuid: Uuid, columns: &Members<String, Json>) -> Result<Self, Error> {
        let mut values: Box<[Value]> = table
            .columns
            .iter()
            .map(|column| Value::default_of(&column.kind))
            .collect();
        for (name, json) in columns {
            let at = known(table, name)?;
            let decoded = Value::decode(json, &table.columns[at].kind);
            values[at] = decoded.map_err(wrong_value(table, name, uuid))?;
        }
        Ok(Self {
            table: Arc::clone(table),
            uuid,
            values,
        })
    }

    fn changed(&self, difference: &Members<String, Json>) -> Result<Self, Error> {
        let mut values = self.values.clone();
        for (name, json) in difference {
            let at = known(&self.table, name)?;
            let kind = &self.table.columns[at].kind;
            let change = Value::decode_change(json, kind).map_err(wrong_value(&self.table, name, self.uuid))?;
            values[at] = self.values[at].with_difference(change, kind);
        }
        Ok(Self {
            table: Arc::clone(&self.table),
            uuid: self.uuid,
            values,
        })
    }
}

fn known(table: &Watched, column: &str) -> Result<usize, Error> {
    let unknown = || {
        Error::NotWatched(format!(
            "column {}.{}",
            table.spec.name,
            value::start_of(&column.into())
        ))
    };
    table.position(column).ok_or_else(unknown)
}

fn wrong_value(table: &Watched, column: &str, uuid: Uuid) -> impl FnOnce(value::Error) -> Error {
    let (table, column) = (table.spec.name.to_owned(), column.to_owned());
    move |source| Error::Value {
        table,
        column,
        uuid,
        source,
    }
}

/// What happened to one row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowChange {
    /// Its table.
    pub table: &'static str,
    /// Which row.
    pub uuid: Uuid,
    /// Before; `None` if it was not there.
    pub old: Option<Arc<Row>>,
    /// Now; `None` if it is gone.
    pub new: Option<Arc<Row>>,
}

#[derive(Debug)]
struct Rows {
    watched: Arc<Watched>,
    by_uuid: BTreeMap<Uuid, Arc<Row>>,
}

/// The watched tables.
#[derive(Debug, Default)]
pub struct Replica {
    schema: Arc<Schema>,
    tables: BTreeMap<&'static str, Rows>,
    epoch: u64,
}

impl Replica {
    /// Without rows, for tables of a schema. Tables that the schema does not have are not watched.
    pub fn new(schema: Arc<Schema>, specs: &[&'static TableSpec]) -> Self {
        let mut tables = BTreeMap::new();
        for spec in specs {
            let Some(table) = schema.table(spec.name) else {
                continue;
            };
            let used = |column: &&ColumnSchema| spec.column(&column.name).is_some();
            let watched = Watched {
                spec,
                columns: table.columns.iter().filter(used).cloned().collect(),
                schema: Arc::clone(table),
            };
            let rows = Rows {
                watched: Arc::new(watched),
                by_uuid: BTreeMap::new(),
            };
            tables.insert(spec.name, rows);
        }
        Self {
            schema,
            tables,
            epoch: 0,
        }
    }

    /// An empty one that comes after this one. If the schema is the same they share what is known of it.
    pub fn successor(&self, schema: Arc<Schema>, specs: &[&'static TableSpec]) -> Self {
        let mut successor = Self::new(schema, specs);
        for (name, rows) in &mut successor.tables {
            if let Some(ours) = self.tables.get(name).filter(|ours| ours.watched == rows.watched) {
                rows.watched = Arc::clone(&ours.watched);
            }
        }
        successor
    }

    /// The database's schema.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Counts the connections. What was concluded from one epoch must not be written in another: in between, changes
    /// may have been missed.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// The watched tables that the database has.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Watched>> {
        self.tables.values().map(|rows| &rows.watched)
    }

    /// All rows of a table, by UUID. Empty if the table is not watched.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = &Arc<Row>> {
        self.tables
            .get(table)
            .into_iter()
            .flat_map(|rows| rows.by_uuid.values())
    }

    /// One row.
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<&Arc<Row>> {
        self.tables.get(table)?.by_uuid.get(&uuid)
    }

    /// All rows of a table as structs.
    pub fn read<T: Table>(&self) -> impl Iterator<Item = (Uuid, Result<T, ReadError>)> {
        self.rows(T::SPEC.name).map(|row| (row.uuid, T::read(row)))
    }

    /// How many rows there are in all tables.
    pub fn len(&self) -> usize {
        self.tables.values().map(|rows| rows.by_uuid.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the server's changes, all or, if one does not fit, none.
    pub fn apply(&mut self, updates: Vec<Update>) -> Result<Vec<RowChange>, Error> {
        let changes = updates
            .into_iter()
            .map(|update| self.change(&update))
            .collect::<Result<Vec<_>, _>>()?;
        for change in &changes {
            let Some(rows) = self.tables.get_mut(change.table) else {
                continue;
            };
            match &change.new {
                Some(row) => rows.by_uuid.insert(change.uuid, Arc::clone(row)),
                None => rows.by_uuid.remove(&change.uuid),
            };
        }
        Ok(changes)
    }

    fn change(&self, update: &Update) -> Result<RowChange, Error> {
        let Some((&table, rows)) = self.tables.get_key_value(&*update.table) else {
            let name = value::start_of(&(&*update.table).into());
            return Err(Error::NotWatched(format!("table {name}")));
        };
        let uuid = update.uuid;
        let old = rows.by_uuid.get(&uuid);
        let missing = || Error::NoSuchRow {
            table: table.to_owned(),
            uuid,
        };
        let new = match &update.change {
            Change::Whole(columns) => Some(Row::build(&rows.watched, uuid, columns)?),
            Change::Difference(columns) => Some(old.ok_or_else(missing)?.changed(columns)?),
            Change::Gone if old.is_none() => return Err(missing()),
            Change::Gone => None,
        };
        Ok(RowChange {
            table,
            uuid,
            old: old.cloned(),
            new: new.map(Arc::new),
        })
    }

    /// What differs from this to a newer replica. Of rows that are the same in both, the newer one takes over ours, so
    /// that who holds them holds no second copy.
    pub fn difference(&self, newer: &mut Self) -> Vec<RowChange> {
        let mut changes = Vec::new();
        for (table, rows) in &mut newer.tables {
            let before = self.tables.get(table).map(|rows| &rows.by_uuid);
            for (uuid, new) in &mut rows.by_uuid {
                let old = before.and_then(|before| before.get(uuid));
                match old {
                    Some(old) if old == new => *new = Arc::clone(old),
                    _ => changes.push(RowChange {
                        table,
                        uuid: *uuid,
                        old: old.cloned(),
                        new: Some(Arc::clone(new)),
                    }),
                }
            }
        }
        for (table, rows) in &self.tables {
            let after = newer.tables.get(table).map(|rows| &rows.by_uuid);
            for (uuid, old) in &rows.by_uuid {
                if after.is_none_or(|after| !after.contains_key(uuid)) {
                    changes.push(RowChange {
                        table,
                        uuid: *uuid,
                        old: Some(Arc::clone(old)),
                        new: None,
                    });
                }
            }
        }
        changes
    }
}
