//! How are tables asked to be watched, and how do their changes come? Three generations of one thing: `monitor`
//! (RFC 7047, 4.1.5), `monitor_cond` and `monitor_cond_since` (ovsdb-server(7), 4.1.12 and 4.1.15).

use serde_json::{Map as Members, Value as Json, json};
use uuid::Uuid;

use crate::{
    schema::Schema,
    table::TableSpec,
    value::{parse_uuid, start_of},
};

/// Why news can't be read. The replica can't be trusted after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reading changes of {at}: expected {expected}, found {found}")]
pub struct Error {
    at: String,
    expected: &'static str,
    found: String,
}

fn malformed(at: &str, expected: &'static str, found: &Json) -> Error {
    Error {
        at: at.chars().take(120).collect(),
        expected,
        found: start_of(found),
    }
}

/// A generation of the protocol, the best one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// After a pause, only what has changed comes (OVS 2.12).
    Since,
    /// Of changed rows only what differs comes (OVS 2.6).
    Cond,
    /// Whole rows come.
    Plain,
}

impl Method {
    /// The request's method.
    pub fn request(self) -> &'static str {
        match self {
            Self::Since => "monitor_cond_since",
            Self::Cond => "monitor_cond",
            Self::Plain => "monitor",
        }
    }

    /// The notification's method.
    pub fn notification(self) -> &'static str {
        match self {
            Self::Since => "update3",
            Self::Cond => "update2",
            Self::Plain => "update",
        }
    }

    /// What a server that does not know this one may know.
    pub fn older(self) -> Option<Self> {
        match self {
            Self::Since => Some(Self::Cond),
            Self::Cond => Some(Self::Plain),
            Self::Plain => None,
        }
    }

    /// The request's parameters: all columns of the specifications that the schema has.
    pub fn params(self, schema: &Schema, specs: &[&'static TableSpec], last: Uuid) -> Json {
        let mut tables = Members::new();
        for spec in specs {
            let Some(table) = schema.table(spec.name) else {
                continue;
            };
            let columns = spec.columns.iter().map(|column| column.name);
            let columns: Vec<&str> = columns.filter(|name| table.column(name).is_some()).collect();
            tables.insert(spec.name.to_owned(), json!([{ "columns": columns }]));
        }
        let mut params = vec![json!(schema.name), json!(MONITOR), Json::Object(tables)];
        if self == Self::Since {
            params.push(json!(last.to_string()));
        }
        Json::Array(params)
    }

    /// Reads the reply to the request.
    pub fn initial(self, reply: &Json) -> Result<Initial, Error> {
        if self != Self::Since {
            return Ok(Initial {
                resumed: false,
                last: Uuid::nil(),
                updates: self.updates(reply)?,
            });
        }
        match reply.as_array().map(Vec::as_slice) {
            Some([Json::Bool(resumed), last, updates]) => Ok(Initial {
                resumed: *resumed,
                last: transaction(last)?,
                updates: self.updates(updates)?,
            }),
            _ => Err(malformed("all tables", "found, transaction and tables", reply)),
        }
    }

    /// Reads a notification's parameters; `None` if it is of another monitor.
    pub fn news(self, params: &Json) -> Result<Option<News>, Error> {
        let params = params.as_array().map_or(&[][..], Vec::as_slice);
        let (id, last, updates) = match (self, params) {
            (Self::Since, [id, last, updates]) => (id, Some(transaction(last)?), updates),
            (Self::Cond | Self::Plain, [id, updates]) => (id, None, updates),
            _ => return Err(malformed("all tables", "a monitor and tables", &json!(params))),
        };
        if id != MONITOR {
            return Ok(None);
        }
        let updates = self.updates(updates)?;
        Ok(Some(News { last, updates }))
    }

    fn updates(self, json: &Json) -> Result<Vec<Update>, Error> {
        let mut updates = Vec::new();
        let tables = json
            .as_object()
            .ok_or_else(|| malformed("all tables", "an object", json))?;
        for (table, rows) in tables {
            let rows = rows.as_object().ok_or_else(|| malformed(table, "rows by UUID", rows))?;
            for (uuid, row) in rows {
                let uuid = parse_uuid(uuid).ok_or_else(|| malformed(table, "a row's UUID", &json!(uuid)))?;
                let change = self
                    .change(row)
                    .ok_or_else(|| malformed(table, "a row's change", row))?;
                updates.push(Update {
                    table: table.as_str().into(),
                    uuid,
                    change,
                });
            }
        }
        Ok(updates)
    }

    fn change(self, row: &Json) -> Option<Change> {
        let row = row.as_object()?;
        let columns = |columns: &Json| columns.as_object().cloned();
        if self == Self::Plain {
            return match row.get("new") {
                Some(new) => columns(new).map(Change::Whole),
                None => row.contains_key("old").then_some(Change::Gone),
            };
        }
        let (kind, value) = row.iter().next().filter(|_| row.len() == 1)?;
        match kind.as_str() {
            "initial" | "insert" => columns(value).map(Change::Whole),
            "modify" => columns(value).map(Change::Difference),
            "delete" => Some(Change::Gone),
            _ => None,
        }
    }
}

/// The name of our monitor of the database.
const MONITOR: &str = "virga";

/// The reply to a request to monitor.
#[derive(Debug, PartialEq)]
pub struct Initial {
    /// Whether `updates` is what has changed since the transaction that was named, and not all rows.
    pub resumed: bool,
    /// The last transaction in it; nil if the server does not number them.
    pub last: Uuid,
    /// Rows.
    pub updates: Vec<Update>,
}

/// A notification.
#[derive(Debug, PartialEq)]
pub struct News {
    /// The last transaction in it, where the protocol tells.
    pub last: Option<Uuid>,
    /// Rows.
    pub updates: Vec<Update>,
}

/// What happened to a row.
#[derive(Debug, PartialEq)]
pub struct Update {
    /// Its table.
    pub table: Box<str>,
    /// Which row.
    pub uuid: Uuid,
    /// What.
    pub change: Change,
}

/// How a row has changed.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// It is this now. Columns that are not there are as by default.
    Whole(Members<String, Json>),
    /// These columns differ by this.
    Difference(Members<String, Json>),
    /// It is gone.
    Gone,
}

fn transaction(json: &Json) -> Result<Uuid, Error> {
    let uuid = json.as_str().and_then(parse_uuid);
    uuid.ok_or_else(|| malformed("all tables", "a transaction's UUID", json))
}
