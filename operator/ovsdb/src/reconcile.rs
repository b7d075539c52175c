//! Which one transaction makes the database what it should be? Pure: desired rows and a replica in, operations out.
//!
//! Our rows carry marks in `external_ids`: [`OWNER`] with the name of this installation, and [`KEY`] with the row's name
//! within it. Only rows with our owner's mark are changed or removed, whatever other rows are called. Columns that no
//! [`TableSpec`](crate::table::TableSpec) describes are not touched in our rows either.
//!
//! - A row that is not there is inserted, under a name by which the others of the same transaction refer to it.
//! - Of a row that is there only the columns that differ are set, and of large sets and maps only what differs in them.
//! - A row of a root table that nobody desires is deleted. Others go when nobody refers to them any more.
//! - Of a part of the owner's rows ([`Desired::part`]) only that part is looked at; the cost is the part's, and one look at
//!   each row's marks.
//! - What other people put into our rows, a port of theirs in our switch, stays, and keeps our row.
//! - What cannot be does not stop the rest: it is left out, and is told as a [`Problem`].

use std::{collections::HashMap, fmt};

use uuid::Uuid;

use crate::{operation::Operation, replica::Replica};

mod change;
mod desired;
mod feasible;
mod ours;
mod removal;

pub use desired::Desired;

/// What the keys of our marks begin with.
pub const MARK: &str = "virga.dev/";
/// The mark that says whose a row is.
pub const OWNER: &str = "virga.dev/owner";
/// The mark that says which one it is.
pub const KEY: &str = "virga.dev/key";

/// A row by our name for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    /// The table.
    pub table: &'static str,
    /// The key in it.
    pub key: Box<str>,
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table, self.key)
    }
}

/// What is desired and can't be. Each is about one row; all others are as desired.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Problem {
    /// Two rows are desired under one key. The first one counts.
    #[error("{0} is desired twice")]
    Twice(RowId),
    /// The database is too old.
    #[error("{0}: the database has no such table")]
    NoTable(RowId),
    /// The database is too old. The row is made without.
    #[error("{row}: the database has no column {column}")]
    NoColumn {
        /// The row.
        row: RowId,
        /// The column.
        column: &'static str,
    },
    /// Another row has what may be there once: its name.
    #[error("{row}: its {columns} is taken by {by}")]
    Taken {
        /// The row, which is left as it is.
        row: RowId,
        /// Which columns together have to be unique.
        columns: String,
        /// The other row.
        by: String,
    },
    /// A reference to a row that is not desired. It is left out.
    #[error("{row}: its {column} refers to {key}, which is not desired")]
    NoReferent {
        /// The row.
        row: RowId,
        /// The column.
        column: &'static str,
        /// The key that it names.
        key: Box<str>,
    },
    /// No row that lives refers to it, so it would not live either.
    #[error("{0} is part of nothing")]
    Orphan(RowId),
    /// It can't be without what it refers to, and that can't be.
    #[error("{row} can't be without its {column}")]
    Incomplete {
        /// The row.
        row: RowId,
        /// The column.
        column: &'static str,
    },
    /// It should go, and somebody else's row needs it.
    #[error("row {uuid} of {table} is ours and should go, but {by} needs it")]
    Needed {
        /// Our row's table.
        table: &'static str,
        /// Our row.
        uuid: Uuid,
        /// Who needs it.
        by: String,
    },
    /// It should go, and somebody else's row lives in it.
    #[error("row {uuid} of {table} is ours and should go, but {held} lives in it")]
    Holds {
        /// Our row's table.
        table: &'static str,
        /// Our row.
        uuid: Uuid,
        /// Who lives in it.
        held: String,
    },
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The replica that it is for; see [`Client::transact_in`](crate::Client::transact_in).
    pub epoch: u64,
    /// One transaction. Empty if all is as desired.
    pub operations: Vec<Operation>,
    /// How many rows come.
    pub inserted: usize,
    /// How many rows change.
    pub updated: usize,
    /// How many rows go, also those that go because nothing refers to them any more.
    pub removed: usize,
    /// What can't be, sorted.
    pub problems: Vec<Problem>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// The transaction that makes our rows what is desired.
pub fn plan(replica: &Replica, desired: &Desired) -> Plan {
    let ours = ours::Ours::find(replica, desired);
    let mut problems = desired.twice().map(Problem::Twice).collect::<Vec<_>>();
    let standing = feasible::judge(replica, desired, &ours, &mut problems);
    let removal = removal::decide(replica, desired, &ours, &standing, &mut problems);

    // Names first: rows refer to each other in any order.
    let mut names: HashMap<(&'static str, &str), Box<str>> = HashMap::new();
    for (table, key, _) in desired.rows() {
        if standing.is_present(table.name, key) && ours.row(table.name, key).is_none() {
            names.insert((table.name, key), format!("row{}", names.len()).into());
        }
    }
    let change = change::Change {
        desired,
        ours: &ours,
        standing: &standing,
        stays: &removal.holding,
        names,
    };
    let mut plan = Plan {
        epoch: replica.epoch(),
        ..Plan::default()
    };
    for watched in replica.tables() {
        for (key, columns) in desired.table(watched.spec.name) {
            if !standing.is_present(watched.spec.name, key) {
                continue;
            }
            match ours.row(watched.spec.name, key) {
                None => {
                    plan.inserted += 1;
                    plan.operations.push(change.insert(watched, key, columns));
                }
                Some(row) => {
                    let before = plan.operations.len();
                    plan.operations.extend(change.update(watched, row, columns));
                    plan.updated += usize::from(plan.operations.len() > before);
                }
            }
        }
    }
    plan.operations.extend(removal.operations(&ours));
    plan.removed = removal.count;
    problems.sort();
    problems.dedup();
    plan.problems = problems;
    plan
}
