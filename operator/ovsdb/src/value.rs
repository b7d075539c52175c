//! What can a column hold? Atoms, sets and maps, and OVSDB's way to write them as JSON (RFC 7047, 5.1).
//!
//! A set of one element is written as the bare atom. What a JSON value means therefore depends on the column's type,
//! and decoding needs it.

use std::{cmp::Ordering, fmt};

use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::schema::{AtomType, BaseType, ColumnType};

mod collection;

pub use collection::{Map, Set};

/// Why a JSON value is not what a column's type says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An atom of another type.
    #[error("expected {expected}, found {found}")]
    Atom {
        /// The type by the schema.
        expected: AtomType,
        /// The start of what is there.
        found: String,
    },
    /// Neither an atom nor a well-formed set or map.
    #[error("expected {expected}, found {found}")]
    Shape {
        /// What the type allows.
        expected: &'static str,
        /// The start of what is there.
        found: String,
    },
    /// Fewer or more elements than the type allows.
    #[error("{count} elements, where {min} to {max} are allowed")]
    Count {
        /// Elements found.
        count: usize,
        /// Fewest.
        min: usize,
        /// Most.
        max: usize,
    },
    /// An element or key that is there twice.
    #[error("the element {0} is there twice")]
    Twice(String),
}

/// A real number with a total order, so that values can be sorted and compared. Negative zero is zero.
#[derive(Debug, Clone, Copy, Default)]
pub struct Real(f64);

impl Real {
    /// JSON has neither infinities nor NaN: such a number becomes 0.
    pub fn new(number: f64) -> Self {
        Self(if number.is_finite() && number != 0.0 {
            number
        } else {
            0.0
        })
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Real {}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// One scalar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Atom {
    /// A signed 64-bit integer.
    Integer(i64),
    /// A double.
    Real(Real),
    /// A boolean.
    Boolean(bool),
    /// A string.
    String(Box<str>),
    /// A reference to a row, or a plain UUID.
    Uuid(Uuid),
    /// In requests only: the row that the same transaction inserts under this name. In a desired state: the row with
    /// this key.
    Named(Box<str>),
}

impl Atom {
    /// The zero value of a type (RFC 7047, 5.2.1).
    pub fn default_of(atom: AtomType) -> Self {
        match atom {
            AtomType::Integer => Self::Integer(0),
            AtomType::Real => Self::Real(Real::new(0.0)),
            AtomType::Boolean => Self::Boolean(false),
            AtomType::String => Self::String("".into()),
            AtomType::Uuid => Self::Uuid(Uuid::nil()),
        }
    }

    /// As OVSDB writes it.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Integer(number) => json!(number),
            Self::Real(number) => json!(number.get()),
            Self::Boolean(flag) => json!(flag),
            Self::String(text) => json!(text),
            Self::Uuid(uuid) => json!(["uuid", uuid.to_string()]),
            Self::Named(name) => json!(["named-uuid", name]),
        }
    }

    /// Reads an atom of a type. Named UUIDs are never in an answer.
    pub fn decode(json: &Json, atom: AtomType) -> Result<Self, Error> {
        let decoded = match (atom, json) {
            (AtomType::Integer, Json::Number(number)) => number.as_i64().map(Self::Integer),
            (AtomType::Real, Json::Number(number)) => number.as_f64().map(|number| Self::Real(Real::new(number))),
            (AtomType::Boolean, Json::Bool(flag)) => Some(Self::Boolean(*flag)),
            (AtomType::String, Json::String(text)) => Some(Self::String(text.as_str().into())),
            (AtomType::Uuid, Json::Array(pair)) => match pair.as_slice() {
                [Json::String(tag), Json::String(uuid)] if tag == "uuid" => parse_uuid(uuid).map(Self::Uuid),
                _ => None,
            },
            _ => None,
        };
        decoded.ok_or_else(|| Error::Atom {
            expected: atom,
            found: start_of(json),
        })
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Real(number) => number.get().fmt(f),
            Self::Boolean(flag) => flag.fmt(f),
            Self::String(text) => write!(f, "{text:?}"),
            Self::Uuid(uuid) => uuid.fmt(f),
            Self::Named(name) => write!(f, "@{name}"),
        }
    }
}

impl From<&str> for Atom {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

/// The form that RFC 7047 demands; `Uuid` itself would read others too, and two texts would then be one row.
pub(crate) fn parse_uuid(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten()
}

/// The first characters of a JSON value, for messages: a peer must not fill the log.
pub(crate) fn start_of(json: &Json) -> String {
    const LONGEST: usize = 80;
    let text = match json {
        // Rendering a huge array to show its start would be work for nothing.
        Json::Array(items) if items.len() > 8 => return format!("an array of {}", items.len()),
        Json::Object(members) if members.len() > 8 => return format!("an object of {}", members.len()),
        Json::String(text) => format!("{:?}", text.chars().take(LONGEST).collect::<String>()),
        other => other.to_string(),
    };
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain("…".chars()).collect()
}

/// What a column holds. Which variant follows from the column's type alone: exactly one element is an atom, a key with
/// a value is a map, everything else (an optional scalar too) is a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Exactly one.
    Atom(Atom),
    /// None, one or many.
    Set(Set),
    /// Pairs.
    Map(Map),
}

impl Value {
    /// What a column holds when nobody has set it (RFC 7047, 5.2.1).
    pub fn default_of(kind: &ColumnType) -> Self {
        match (&kind.value, kind.is_scalar()) {
            (Some(_), _) => Self::Map(Map::default()),
            (None, true) => Self::Atom(Atom::default_of(kind.key.atom)),
            (None, false) => Self::Set(Set::default()),
        }
    }

    /// As OVSDB writes it. A set of one is the bare atom.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Atom(atom) => atom.to_json(),
            Self::Set(set) => match set.as_slice() {
                [atom] => atom.to_json(),
                atoms => json!(["set", atoms.iter().map(Atom::to_json).collect::<Vec<_>>()]),
            },
            Self::Map(pairs) => {
                let pairs: Vec<Json> = pairs.iter().map(|(k, v)| json!([k.to_json(), v.to_json()])).collect();
                json!(["map", pairs])
            }
        }
    }

    /// Reads a column's value.
    pub fn decode(json: &Json, kind: &ColumnType) -> Result<Self, Error> {
        let value = Self::decode_change(json, kind)?;
        let count = match &value {
            Self::Atom(_) => 1,
            Self::Set(set) => set.len(),
            Self::Map(map) => map.len(),
        };
        if count < kind.min || count > kind.max {
            let (min, max) = (kind.min, kind.max);
            return Err(Error::Count { count, min, max });
        }
        Ok(value)
    }

    /// Reads what `update2` writes of a changed column: of the column's type, but with any number of elements.
    pub fn decode_change(json: &Json, kind: &ColumnType) -> Result<Self, Error> {
        if let Some(value) = &kind.value {
            return decode_map(json, &kind.key, value).map(Self::Map);
        }
        if kind.is_scalar() {
            // A set of one may also be written out.
            let json = match tagged(json, "set") {
                Some([one]) => one,
                _ => json,
            };
            return Atom::decode(json, kind.key.atom).map(Self::Atom);
        }
        let atoms = tagged(json, "set").unwrap_or(std::slice::from_ref(json));
        let set: Set = atoms
            .iter()
            .map(|atom| Atom::decode(atom, kind.key.atom))
            .collect::<Result<_, _>>()?;
        if set.len() < atoms.len() {
            return Err(Error::Twice(start_of(json)));
        }
        Ok(Self::Set(set))
    }

    /// This value after a change that `update2` wrote. Types with at most one element are replaced, also optional ones.
    pub fn with_difference(&self, difference: Self, kind: &ColumnType) -> Self {
        match (self, difference) {
            (Self::Set(old), Self::Set(change)) if kind.max > 1 => Self::Set(old.symmetric_difference(&change)),
            (Self::Map(old), Self::Map(change)) if kind.max > 1 => Self::Map(old.with_difference(&change)),
            (_, new) => new,
        }
    }
}

/// The elements of `["set", [...]]` or `["map", [...]]`.
fn tagged<'a>(json: &'a Json, wanted: &str) -> Option<&'a [Json]> {
    match json.as_array()?.as_slice() {
        [Json::String(tag), Json::Array(elements)] if tag == wanted => Some(elements),
        _ => None,
    }
}

fn decode_map(json: &Json, key: &BaseType, value: &BaseType) -> Result<Map, Error> {
    let shape = |expected| {
        move |found: &Json| Error::Shape {
            expected,
            found: start_of(found),
        }
    };
    let pairs = tagged(json, "map").ok_or_else(|| shape("a map")(json))?;
    let map: Map = pairs
        .iter()
        .map(|pair| match pair.as_array().map(Vec::as_slice) {
            Some([k, v]) => Ok((Atom::decode(k, key.atom)?, Atom::decode(v, value.atom)?)),
            _ => Err(shape("a pair of a map")(pair)),
        })
        .collect::<Result<_, Error>>()?;
    if map.len() < pairs.len() {
        return Err(Error::Twice(start_of(json)));
    }
    Ok(map)
}

#[cfg(test)]
mod tests;
