//! What tables and columns does a database have (RFC 7047, 3.2)? Read from the server, and checked against what we use.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::{Map as Members, Value as Json};

use crate::{
    table::{Need, TableSpec},
    value::start_of,
};

/// Why a schema is of no use to us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a schema at all.
    #[error("reading the schema at {at}: expected {expected}, found {found}")]
    Malformed {
        /// Table and column, as far as known.
        at: String,
        /// What should be there.
        expected: &'static str,
        /// The start of what is.
        found: String,
    },
    /// The database does not have what we can't do without.
    #[error(
        "database {database} has schema version {version}, which lacks {}; a newer OVN is needed",
        .missing.join(", ")
    )]
    TooOld {
        /// The database.
        database: String,
        /// Its schema's version, empty if it has none.
        version: String,
        /// `table T` or `column T.C`, all of them.
        missing: Vec<String>,
    },
    /// A column has a type that our description does not expect.
    #[error("column {table}.{column} is {found}, and we expect {expected}")]
    Type {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What we expect.
        expected: &'static str,
        /// What it is.
        found: String,
    },
}

/// The type of an atom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AtomType {
    /// `integer`
    Integer,
    /// `real`
    Real,
    /// `boolean`
    Boolean,
    /// `string`
    String,
    /// `uuid`
    Uuid,
}

impl AtomType {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "integer" => Self::Integer,
            "real" => Self::Real,
            "boolean" => Self::Boolean,
            "string" => Self::String,
            "uuid" => Self::Uuid,
            _ => return None,
        })
    }
}

impl fmt::Display for AtomType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "an integer",
            Self::Real => "a real",
            Self::Boolean => "a boolean",
            Self::String => "a string",
            Self::Uuid => "a uuid",
        })
    }
}

/// Which rows a UUID points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The table.
    pub table: Box<str>,
    /// A strong reference keeps its row alive, and the row can't be deleted; a weak one goes with its row.
    pub strong: bool,
}

/// The type of a set's elements, or of a map's keys or values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseType {
    /// The atom.
    pub atom: AtomType,
    /// For UUIDs that point to rows.
    pub reference: Option<Reference>,
}

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnType {
    /// Elements, or a map's keys.
    pub key: BaseType,
    /// A map's values.
    pub value: Option<BaseType>,
    /// Fewest elements: 0 or 1.
    pub min: usize,
    /// Most elements; `usize::MAX` for no limit.
    pub max: usize,
}

impl ColumnType {
    /// Exactly one element and no map.
    pub fn is_scalar(&self) -> bool {
        self.value.is_none() && self.min == 1 && self.max == 1
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSchema {
    /// Its name.
    pub name: Box<str>,
    /// What it holds.
    pub kind: ColumnType,
    /// Whether it can be changed once the row is there.
    pub mutable: bool,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSchema {
    /// Its name.
    pub name: Box<str>,
    /// Sorted by name.
    pub columns: Vec<ColumnSchema>,
    /// Rows of a root table live until they are deleted; others only while a strong reference points to them.
    pub root: bool,
    /// Columns whose values together are different in all rows.
    pub indexes: Vec<Vec<Box<str>>>,
}

impl TableSchema {
    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&ColumnSchema> {
        let at = self.columns.binary_search_by(|column| (*column.name).cmp(name)).ok()?;
        Some(&self.columns[at])
    }
}

/// A database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// Its name.
    pub name: Box<str>,
    /// The schema's version, `x.y.z`.
    pub version: Box<str>,
    /// Its tables.
    pub tables: BTreeMap<Box<str>, Arc<TableSchema>>,
}

impl Schema {
    /// Reads the answer to `get_schema`, or a schema file.
    pub fn parse(json: &Json) -> Result<Self, Error> {
        let schema = object(json, "schema")?;
        let mut tables = BTreeMap::new();
        for (name, table) in member_object(schema, "tables", "schema")? {
            tables.insert(name.as_str().into(), parse_table(name, table)?);
        }
        // Schemas older than the notion of root tables mean that all are (RFC 7047, 3.2, "isRoot").
        let no_root = tables.values().all(|table: &TableSchema| !table.root);
        let tables = tables
            .into_iter()
            .map(|(name, mut table)| {
                table.root |= no_root;
                (name, Arc::new(table))
            })
            .collect();
        Ok(Self {
            name: text(schema.get("name").unwrap_or(&Json::Null), "schema.name")?.into(),
            version: schema.get("version").and_then(Json::as_str).unwrap_or_default().into(),
            tables,
        })
    }

    /// A table by name.
    pub fn table(&self, name: &str) -> Option<&Arc<TableSchema>> {
        self.tables.get(name)
    }

    /// Whether all is there that the specifications need; what is missing is said at once.
    pub fn check(&self, specs: &[&'static TableSpec]) -> Result<(), Error> {
        let mut missing = Vec::new();
        for spec in specs {
            let Some(table) = self.table(spec.name) else {
                if spec.need == Need::Required {
                    missing.push(format!("table {}", spec.name));
                }
                continue;
            };
            for wanted in spec.columns {
                let Some(column) = table.column(wanted.name) else {
                    if wanted.need == Need::Required {
                        missing.push(format!("column {}.{}", spec.name, wanted.name));
                    }
                    continue;
                };
                if let Some((expected, found)) = wanted.mismatch(column) {
                    return Err(Error::Type {
                        table: spec.name.to_owned(),
                        column: wanted.name.to_owned(),
                        expected,
                        found,
                    });
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::TooOld {
            database: self.name.to_string(),
            version: self.version.to_string(),
            missing,
        })
    }
}

fn malformed(at: &str, expected: &'static str, found: &Json) -> Error {
    Error::Malformed {
        at: at.chars().take(120).collect(),
        expected,
        found: start_of(found),
    }
}

fn object<'a>(json: &'a Json, at: &str) -> Result<&'a Members<String, Json>, Error> {
    json.as_object().ok_or_else(|| malformed(at, "an object", json))
}

fn member_object<'a>(
    members: &'a Members<String, Json>,
    name: &str,
    at: &str,
) -> Result<&'a Members<String, Json>, Error> {
    object(members.get(name).unwrap_or(&Json::Null), &format!("{at}.{name}"))
}

fn text<'a>(json: &'a Json, at: &str) -> Result<&'a str, Error> {
    json.as_str().ok_or_else(|| malformed(at, "a string", json))
}

fn flag(members: &Members<String, Json>, name: &str, otherwise: bool, at: &str) -> Result<bool, Error> {
    match members.get(name) {
        None => Ok(otherwise),
        Some(json) => json.as_bool().ok_or_else(|| malformed(at, "a boolean", json)),
    }
}

fn parse_table(name: &str, json: &Json) -> Result<TableSchema, Error> {
    let table = object(json, name)?;
    let mut columns = member_object(table, "columns", name)?
        .iter()
        .map(|(column, json)| parse_column(column, json, &format!("{name}.{column}")))
        .collect::<Result<Vec<_>, _>>()?;
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    let indexes = match table.get("indexes") {
        None => Vec::new(),
        Some(json) => parse_indexes(json).ok_or_else(|| malformed(name, "indexes as lists of column names", json))?,
    };
    Ok(TableSchema {
        name: name.into(),
        columns,
        root: flag(table, "isRoot", false, name)?,
        indexes,
    })
}

fn parse_indexes(json: &Json) -> Option<Vec<Vec<Box<str>>>> {
    let index = |json: &Json| -> Option<Vec<Box<str>>> {
        json.as_array()?
            .iter()
            .map(|name| Some(name.as_str()?.into()))
            .collect()
    };
    json.as_array()?.iter().map(index).collect()
}

fn parse_column(name: &str, json: &Json, at: &str) -> Result<ColumnSchema, Error> {
    let column = object(json, at)?;
    let kind = column.get("type").unwrap_or(&Json::Null);
    Ok(ColumnSchema {
        name: name.into(),
        kind: parse_type(kind, at)?,
        mutable: flag(column, "mutable", true, at)?,
    })
}

fn parse_type(json: &Json, at: &str) -> Result<ColumnType, Error> {
    let Some(kind) = json.as_object() else {
        return Ok(ColumnType {
            key: parse_base(json, at)?,
            value: None,
            min: 1,
            max: 1,
        });
    };
    let limit = |name: &str| match kind.get(name) {
        None => Ok(1),
        Some(Json::String(text)) if text == "unlimited" => Ok(usize::MAX),
        Some(json) => json
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| malformed(at, "a number of elements", json)),
    };
    Ok(ColumnType {
        key: parse_base(kind.get("key").unwrap_or(&Json::Null), at)?,
        value: kind.get("value").map(|value| parse_base(value, at)).transpose()?,
        min: limit("min")?,
        max: limit("max")?,
    })
}

fn parse_base(json: &Json, at: &str) -> Result<BaseType, Error> {
    let (name, members) = match json {
        Json::Object(members) => (members.get("type").unwrap_or(&Json::Null), Some(members)),
        _ => (json, None),
    };
    let atom = AtomType::parse(text(name, at)?).ok_or_else(|| malformed(at, "the name of an atomic type", name))?;
    let reference = match members.and_then(|members| members.get("refTable")) {
        None => None,
        Some(table) => Some(Reference {
            table: text(table, at)?.into(),
            strong: members
                .and_then(|members| members.get("refType"))
                .and_then(Json::as_str)
                != Some("weak"),
        }),
    };
    Ok(BaseType { atom, reference })
}
