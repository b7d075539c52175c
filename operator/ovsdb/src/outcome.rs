//! What did a transaction do? The reply, matched to its operations (RFC 7047, 4.1.3).

use serde_json::{Map as Members, Value as Json};
use uuid::Uuid;

use crate::{operation::Operation, value::parse_uuid, value::start_of};

/// The longest text of the server's that is kept.
const LONGEST_DETAIL: usize = 1000;

/// Why a transaction was refused: the errors of RFC 7047, 5.2, and those of ovsdb-server(7).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A row that others refer to would be gone, or a reference leads nowhere.
    #[error("referential integrity violation")]
    ReferentialIntegrity,
    /// A value that the schema forbids, too few or too many elements, or an index value that is taken.
    #[error("constraint violation")]
    Constraint,
    /// The server lacks memory, or something else.
    #[error("resources exhausted")]
    ResourcesExhausted,
    /// The server can't write its file.
    #[error("I/O error")]
    Io,
    /// Two rows inserted under one name.
    #[error("duplicate uuid-name")]
    DuplicateName,
    /// A row that is to have another row's UUID.
    #[error("duplicate uuid")]
    DuplicateUuid,
    /// A division by zero.
    #[error("domain error")]
    Domain,
    /// An integer that leaves its range.
    #[error("range error")]
    Range,
    /// What a `wait` waits for is not so: somebody else was faster.
    #[error("timed out")]
    TimedOut,
    /// The server can't do that.
    #[error("not supported")]
    NotSupported,
    /// By an `abort`.
    #[error("aborted")]
    Aborted,
    /// An `assert` of a lock that somebody else holds.
    #[error("not owner")]
    NotOwner,
    /// The server's rules on who may write what.
    #[error("permission error")]
    Permission,
    /// This server does not write: a replica.
    #[error("not allowed")]
    ReadOnly,
    /// The cluster has changed its leader, or is no cluster any more.
    #[error("cluster error")]
    Cluster,
    /// The server knows no such database.
    #[error("unknown database")]
    UnknownDatabase,
    /// The server can't read the operation: a table or column it does not know.
    #[error("syntax error")]
    Syntax,
    /// Something that no specification names.
    #[error("{0}")]
    Other(String),
}

impl Reason {
    /// By the server's text.
    pub fn parse(text: &str) -> Self {
        match text {
            "referential integrity violation" => Self::ReferentialIntegrity,
            "constraint violation" => Self::Constraint,
            "resources exhausted" => Self::ResourcesExhausted,
            "I/O error" => Self::Io,
            "duplicate uuid-name" => Self::DuplicateName,
            "duplicate uuid" => Self::DuplicateUuid,
            "domain error" => Self::Domain,
            "range error" => Self::Range,
            "timed out" => Self::TimedOut,
            "not supported" => Self::NotSupported,
            "aborted" => Self::Aborted,
            "not owner" => Self::NotOwner,
            "permission error" => Self::Permission,
            "not allowed" => Self::ReadOnly,
            "cluster error" | "not leader" | "prerequisite failed" => Self::Cluster,
            "unknown database" => Self::UnknownDatabase,
            "syntax error" | "unknown column" | "syntax error or unknown column" | "unknown table" => Self::Syntax,
            other => Self::Other(shortened(other)),
        }
    }

    /// Whether the same transaction can pass later, or on another server, without anyone changing it.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::ResourcesExhausted | Self::Io | Self::TimedOut | Self::NotOwner | Self::ReadOnly | Self::Cluster
        )
    }
}

/// A transaction that was refused. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}{}", .step, if .details.is_empty() { String::new() } else { format!(": {}", .details) })]
pub struct Refused {
    /// Which operation, by its place and its words; or the commit.
    pub step: String,
    /// The operation's place; `None` if all went well until the commit.
    pub operation: Option<usize>,
    /// Why.
    pub reason: Reason,
    /// The server's words.
    pub details: String,
}

/// Why a reply is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The transaction was refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The server answers in a way that the protocol does not know. Whether the transaction was done is not known.
    #[error("reading the result of {step}: expected {expected}, found {found}")]
    Malformed {
        /// Which operation.
        step: String,
        /// What should be there.
        expected: &'static str,
        /// The start of what is.
        found: String,
    },
}

/// What one operation did.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// The new row's UUID.
    Inserted(Uuid),
    /// How many rows an update, mutate or delete was for.
    Count(u64),
    /// What a select found: columns by name, as JSON. [`Row`](crate::replica::Row) is the typed way to read.
    Rows(Vec<Members<String, Json>>),
    /// Nothing to tell: wait, comment, assert.
    Nothing,
}

/// Reads the reply to a transaction: one result for each operation.
pub fn read(operations: &[Operation], reply: Result<&Json, &Json>) -> Result<Vec<Done>, Error> {
    let whole = || "the transaction".to_owned();
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => return Err(refused(whole(), None, error).into()),
    };
    let Some(results) = reply.as_array() else {
        return Err(malformed(whole(), "an array", reply));
    };
    // An error ends the reply; after it come nulls. One beyond the last operation is of the commit.
    if let Some(at) = results
        .iter()
        .position(|result| result.get("error").is_some_and(|e| !e.is_null()))
    {
        let step = operations
            .get(at)
            .map_or_else(|| "committing the transaction".to_owned(), |op| step(at, op));
        return Err(refused(step, (at < operations.len()).then_some(at), &results[at]).into());
    }
    if results.len() < operations.len() {
        return Err(malformed(whole(), "a result for each operation", reply));
    }
    operations
        .iter()
        .zip(results)
        .enumerate()
        .map(|(at, (operation, result))| {
            let wrong = |expected| malformed(step(at, operation), expected, result);
            match operation {
                Operation::Insert { .. } => inserted(result).map(Done::Inserted).ok_or_else(|| wrong("a UUID")),
                Operation::Update { .. } | Operation::Mutate { .. } | Operation::Delete { .. } => {
                    let count = result.get("count").and_then(Json::as_u64);
                    count.map(Done::Count).ok_or_else(|| wrong("a count"))
                }
                Operation::Select { .. } => rows(result).map(Done::Rows).ok_or_else(|| wrong("rows")),
                Operation::Wait { .. } | Operation::Assert { .. } | Operation::Comment(_) | Operation::Abort => {
                    Ok(Done::Nothing)
                }
            }
        })
        .collect()
}

fn step(at: usize, operation: &Operation) -> String {
    let name = operation.name();
    match operation.table() {
        Some(table) => format!("operation {at}, {name} in {table}"),
        None => format!("operation {at}, {name}"),
    }
}

fn inserted(result: &Json) -> Option<Uuid> {
    match result.get("uuid")?.as_array()?.as_slice() {
        [Json::String(tag), Json::String(uuid)] if tag == "uuid" => parse_uuid(uuid),
        _ => None,
    }
}

fn rows(result: &Json) -> Option<Vec<Members<String, Json>>> {
    result
        .get("rows")?
        .as_array()?
        .iter()
        .map(|row| row.as_object().cloned())
        .collect()
}

fn malformed(step: String, expected: &'static str, found: &Json) -> Error {
    Error::Malformed {
        step,
        expected,
        found: start_of(found),
    }
}

fn refused(step: String, operation: Option<usize>, error: &Json) -> Refused {
    let reason = error.get("error").and_then(Json::as_str).or(error.as_str());
    Refused {
        step,
        operation,
        reason: reason.map_or_else(|| Reason::Other(start_of(error)), Reason::parse),
        details: shortened(error.get("details").and_then(Json::as_str).unwrap_or_default()),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_DETAIL).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn delete() -> Operation {
        Operation::Delete {
            table: "ACL".into(),
            conditions: Vec::new(),
        }
    }

    #[test]
    fn results_are_matched_to_operations() {
        let operations = [Operation::Comment("why".into()), delete()];
        let reply = json!([{}, {"count": 2}]);
        assert_eq!(read(&operations, Ok(&reply)).unwrap(), [Done::Nothing, Done::Count(2)]);
    }

    #[test]
    fn an_error_names_the_operation_and_its_table() {
        let reply = json!([{"count": 1}, {"error": "timed out", "details": "too slow"}, null]);
        let Err(Error::Refused(refused)) = read(&[delete(), delete(), delete()], Ok(&reply)) else {
            panic!("it should be refused");
        };
        assert_eq!(refused.reason, Reason::TimedOut);
        assert_eq!(refused.to_string(), "operation 1, delete in ACL: timed out: too slow");
    }

    #[test]
    fn an_error_after_the_last_result_is_of_the_commit() {
        let reply = json!([{"count": 1}, {"error": "referential integrity violation"}]);
        let Err(Error::Refused(refused)) = read(&[delete()], Ok(&reply)) else {
            panic!("it should be refused");
        };
        assert_eq!(
            (refused.operation, refused.reason),
            (None, Reason::ReferentialIntegrity)
        );
    }

    #[test]
    fn a_reply_that_is_too_short_or_of_another_shape_is_an_error() {
        for reply in [json!([]), json!({}), json!([{}]), json!([{"count": -1}]), json!([null])] {
            assert!(
                matches!(read(&[delete()], Ok(&reply)), Err(Error::Malformed { .. })),
                "{reply}"
            );
        }
    }
}
