//! One step of a transaction, and how it is written (RFC 7047, 5.2).

use std::time::Duration;

use serde_json::{Map as Members, Value as Json, json};
use uuid::Uuid;

use crate::value::{Atom, Value};

/// Columns with their values.
pub type Columns = Vec<(Box<str>, Value)>;

/// How a condition compares a column with its argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `includes`: the column has all elements of the argument.
    Includes,
    /// `excludes`: it has none of them.
    Excludes,
}

impl Comparison {
    fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::Includes => "includes",
            Self::Excludes => "excludes",
        }
    }
}

/// Which rows an operation is for. All conditions have to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The column; `_uuid` is one too.
    pub column: Box<str>,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: Value,
}

impl Condition {
    /// One condition.
    pub fn new(column: &str, comparison: Comparison, value: Value) -> Self {
        Self {
            column: column.into(),
            comparison,
            value,
        }
    }

    /// The one row with this UUID.
    pub fn row(uuid: Uuid) -> Self {
        Self::new("_uuid", Comparison::Equal, Value::Atom(Atom::Uuid(uuid)))
    }

    fn to_json(&self) -> Json {
        json!([self.column, self.comparison.as_str(), self.value.to_json()])
    }
}

/// What a mutation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutator {
    /// `+=`
    Add,
    /// `-=`
    Subtract,
    /// `*=`
    Multiply,
    /// `/=`
    Divide,
    /// `%=`
    Remainder,
    /// `insert`: of a map, only keys that are not there.
    Insert,
    /// `delete`: of a map, the pairs given, or by a set the keys given.
    Delete,
}

impl Mutator {
    fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+=",
            Self::Subtract => "-=",
            Self::Multiply => "*=",
            Self::Divide => "/=",
            Self::Remainder => "%=",
            Self::Insert => "insert",
            Self::Delete => "delete",
        }
    }
}

/// A change of a column by what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The column.
    pub column: Box<str>,
    /// What is done.
    pub mutator: Mutator,
    /// With what.
    pub value: Value,
}

impl Mutation {
    /// One mutation.
    pub fn new(column: &str, mutator: Mutator, value: Value) -> Self {
        Self {
            column: column.into(),
            mutator,
            value,
        }
    }

    fn to_json(&self) -> Json {
        json!([self.column, self.mutator.as_str(), self.value.to_json()])
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A new row.
    Insert {
        /// Where.
        table: Box<str>,
        /// What it holds; the rest is as by default.
        row: Columns,
        /// Under which name ([`Atom::Named`]) this transaction refers to it.
        name: Option<Box<str>>,
    },
    /// Reads rows.
    Select {
        /// Where.
        table: Box<str>,
        /// Which.
        conditions: Vec<Condition>,
        /// What of them; all if empty.
        columns: Vec<Box<str>>,
    },
    /// Sets columns.
    Update {
        /// Where.
        table: Box<str>,
        /// Which rows.
        conditions: Vec<Condition>,
        /// To what.
        row: Columns,
    },
    /// Changes columns by what they hold.
    Mutate {
        /// Where.
        table: Box<str>,
        /// Which rows.
        conditions: Vec<Condition>,
        /// How, one after the other.
        mutations: Vec<Mutation>,
    },
    /// Removes rows.
    Delete {
        /// Where.
        table: Box<str>,
        /// Which rows.
        conditions: Vec<Condition>,
    },
    /// Goes on only when rows are, or are not, as given; fails with "timed out" otherwise.
    Wait {
        /// Where.
        table: Box<str>,
        /// Which rows.
        conditions: Vec<Condition>,
        /// What of them is compared.
        columns: Vec<Box<str>>,
        /// Whether they have to be equal to `rows`, or have to differ.
        equal: bool,
        /// What they are compared with, in any order.
        rows: Vec<Columns>,
        /// How long the server waits for it. Zero decides at once, and is a check.
        limit: Duration,
    },
    /// Goes on only if this client holds the lock.
    Assert {
        /// The lock's name.
        lock: Box<str>,
    },
    /// A text for the server's log of transactions.
    Comment(String),
    /// Fails, and undoes all before it. For trying out.
    Abort,
}

impl Operation {
    /// As in RFC 7047.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Insert { .. } => "insert",
            Self::Select { .. } => "select",
            Self::Update { .. } => "update",
            Self::Mutate { .. } => "mutate",
            Self::Delete { .. } => "delete",
            Self::Wait { .. } => "wait",
            Self::Assert { .. } => "assert",
            Self::Comment(_) => "comment",
            Self::Abort => "abort",
        }
    }

    /// The table it is for.
    pub fn table(&self) -> Option<&str> {
        match self {
            Self::Insert { table, .. }
            | Self::Select { table, .. }
            | Self::Update { table, .. }
            | Self::Mutate { table, .. }
            | Self::Delete { table, .. }
            | Self::Wait { table, .. } => Some(table),
            Self::Assert { .. } | Self::Comment(_) | Self::Abort => None,
        }
    }

    /// As OVSDB wants it.
    pub fn to_json(&self) -> Json {
        let mut members = Members::new();
        let mut put = |name: &str, json: Json| {
            members.insert(name.to_owned(), json);
        };
        put("op", json!(self.name()));
        if let Some(table) = self.table() {
            put("table", json!(table));
        }
        match self {
            Self::Insert { row, name, .. } => {
                put("row", row_json(row));
                if let Some(name) = name {
                    put("uuid-name", json!(name));
                }
            }
            Self::Select {
                conditions, columns, ..
            } => {
                put("where", where_json(conditions));
                if !columns.is_empty() {
                    put("columns", json!(columns));
                }
            }
            Self::Update { conditions, row, .. } => {
                put("where", where_json(conditions));
                put("row", row_json(row));
            }
            Self::Mutate {
                conditions, mutations, ..
            } => {
                put("where", where_json(conditions));
                put("mutations", mutations.iter().map(Mutation::to_json).collect());
            }
            Self::Delete { conditions, .. } => put("where", where_json(conditions)),
            Self::Wait {
                conditions,
                columns,
                equal,
                rows,
                limit,
                ..
            } => {
                put("where", where_json(conditions));
                put("columns", json!(columns));
                put("until", json!(if *equal { "==" } else { "!=" }));
                put("rows", rows.iter().map(row_json).collect());
                put("timeout", json!(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)));
            }
            Self::Assert { lock } => put("lock", json!(lock)),
            Self::Comment(text) => put("comment", json!(text)),
            Self::Abort => {}
        }
        Json::Object(members)
    }
}

/// Sets columns of one row if they still hold what was read: the check and the update, for one transaction. If they do
/// not, the transaction fails with "timed out".
pub fn compare_and_set(table: &str, row: Uuid, read: Columns, new: Columns) -> [Operation; 2] {
    let check = Operation::Wait {
        table: table.into(),
        conditions: vec![Condition::row(row)],
        columns: read.iter().map(|(column, _)| column.clone()).collect(),
        equal: true,
        rows: vec![read],
        limit: Duration::ZERO,
    };
    let update = Operation::Update {
        table: table.into(),
        conditions: vec![Condition::row(row)],
        row: new,
    };
    [check, update]
}

fn row_json(row: &Columns) -> Json {
    let members = row.iter().map(|(column, value)| (column.to_string(), value.to_json()));
    Json::Object(members.collect())
}

fn where_json(conditions: &[Condition]) -> Json {
    conditions.iter().map(Condition::to_json).collect()
}
