//! Which tables and columns do we use, what for, and how much of them is ours?

use std::{collections::BTreeMap, collections::BTreeSet, fmt, marker::PhantomData};

use uuid::Uuid;

use crate::{
    schema::{AtomType, ColumnSchema},
    value::{Atom, Real, Value},
};

/// Whether a database without a table or column is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It is not: the connection is refused with what is missing.
    Required,
    /// It is: newer databases have it, and only who wants a value there is told.
    Optional,
}

/// How much of a column in one of our rows is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it: it becomes what is desired. In a set of references, references to other people's rows stay.
    Whole,
    /// A map: the keys that begin with [`MARK`](crate::reconcile::MARK), and those that are given. Others stay.
    Marked,
    /// A map: the keys that are given. Others stay, and none is ever removed.
    Given,
    /// Nothing: it is read only.
    Observed,
}

/// Which type a column is expected to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Exactly one.
    Scalar(AtomType),
    /// None or one.
    Optional(AtomType),
    /// Any number.
    Set(AtomType),
    /// Pairs.
    Map(AtomType, AtomType),
}

/// One column that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Its name in the schema.
    pub name: &'static str,
    /// Whether we can do without.
    pub need: Need,
    /// How much of it is ours.
    pub extent: Extent,
    /// Its type.
    pub form: Form,
}

impl ColumnSpec {
    /// Expected and found, if the schema's column can't be used as ours.
    pub(crate) fn mismatch(&self, column: &ColumnSchema) -> Option<(&'static str, String)> {
        let kind = &column.kind;
        let key = kind.key.atom;
        let value = kind.value.as_ref().map(|value| value.atom);
        let (fits, expected) = match self.form {
            Form::Scalar(atom) => (kind.is_scalar() && key == atom, "exactly one of its type"),
            Form::Optional(atom) => (
                value.is_none() && key == atom && kind.min == 0 && kind.max == 1,
                "none or one of its type",
            ),
            Form::Set(atom) => (value.is_none() && key == atom && kind.max > 1, "a set of its type"),
            Form::Map(k, v) => (key == k && value == Some(v), "a map of its types"),
        };
        let found = || {
            let (min, max) = (kind.min, kind.max);
            match value {
                Some(value) => format!("a map from {key} to {value}"),
                None if max == usize::MAX => format!("{min} or more times {key}"),
                None => format!("{min} to {max} times {key}"),
            }
        };
        if !fits {
            return Some((expected, found()));
        }
        if !column.mutable && self.extent != Extent::Observed {
            return Some(("that it can be changed", "immutable".to_owned()));
        }
        None
    }
}

/// How one of our rows is told from other people's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// By [`OWNER`](crate::reconcile::OWNER) and [`KEY`](crate::reconcile::KEY) in the column `external_ids`.
    ExternalIds,
    /// The table has no `external_ids`: by the column `name`, which is `<owner>:<key>`.
    Name,
    /// The table has one row, which belongs to everybody. It is made if it is not there, and never deleted.
    Single,
}

/// One table that we use.
#[derive(Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// Its name in the schema.
    pub name: &'static str,
    /// Whether we can do without.
    pub need: Need,
    /// How our rows are known.
    pub identity: Identity,
    /// The columns that are monitored: ours, and those that are only read.
    pub columns: &'static [ColumnSpec],
}

impl TableSpec {
    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&'static ColumnSpec> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// A table as a Rust struct, one field a column.
pub trait Table: Sized {
    /// The table and its columns.
    const SPEC: &'static TableSpec;

    /// What each column should hold, by the column's name; a column that is left alone is left out.
    fn desired(&self) -> Vec<(&'static str, Value)>;

    /// A row of the replica. Columns that the database does not have are as by default.
    fn read(row: &crate::replica::Row) -> Result<Self, crate::replica::ReadError>;
}

/// A reference to a row of another table.
pub enum Ref<T> {
    /// The row that is desired under this key.
    Key(Box<str>, PhantomData<fn() -> T>),
    /// Any row: one that is not ours, or as read from the database.
    Uuid(Uuid),
}

impl<T> Ref<T> {
    /// The row that is, or will be, desired under this key.
    pub fn to(key: impl Into<Box<str>>) -> Self {
        Self::Key(key.into(), PhantomData)
    }

    fn order(&self) -> (Option<&str>, Option<Uuid>) {
        match self {
            Self::Key(key, _) => (Some(key), None),
            Self::Uuid(uuid) => (None, Some(*uuid)),
        }
    }
}

// Not derived: a derive would ask the same of T.
impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Key(key, _) => Self::Key(key.clone(), PhantomData),
            Self::Uuid(uuid) => Self::Uuid(*uuid),
        }
    }
}

impl<T> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key, _) => write!(f, "@{key}"),
            Self::Uuid(uuid) => uuid.fmt(f),
        }
    }
}

impl<T> PartialEq for Ref<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<T> Eq for Ref<T> {}

impl<T> PartialOrd for Ref<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Ref<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

/// A Rust type that is one atom.
pub trait Scalar: Sized + Ord {
    /// Its type in the schema.
    const ATOM: AtomType;
    /// As an atom.
    fn to_atom(&self) -> Atom;
    /// From an atom; `None` if it is of another type or not one of the values that the type knows.
    fn from_atom(atom: &Atom) -> Option<Self>;
}

/// A Rust type that is a whole column: a scalar, an `Option`, a `BTreeSet` or a `BTreeMap` of scalars, or [`Keep`].
pub trait Column: Sized + Default {
    /// Its type in the schema.
    const FORM: Form;
    /// As a value; `None` leaves the column as it is.
    fn to_value(&self) -> Option<Value>;
    /// From a value; `None` if it is of another type.
    fn from_value(value: &Value) -> Option<Self>;
}

/// A column that others write too: it is changed only by who sets it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Keep<T> {
    /// As it is.
    #[default]
    Kept,
    /// To be this.
    Set(T),
}

impl<T: Column> Column for Keep<T> {
    const FORM: Form = T::FORM;

    fn to_value(&self) -> Option<Value> {
        match self {
            Self::Kept => None,
            Self::Set(value) => value.to_value(),
        }
    }

    fn from_value(value: &Value) -> Option<Self> {
        T::from_value(value).map(Self::Set)
    }
}

impl<T: Scalar> Column for Option<T> {
    const FORM: Form = Form::Optional(T::ATOM);

    fn to_value(&self) -> Option<Value> {
        Some(Value::Set(self.iter().map(Scalar::to_atom).collect()))
    }

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Set(set) => match set.as_slice() {
                [] => Some(None),
                [atom] => T::from_atom(atom).map(Some),
                _ => None,
            },
            _ => None,
        }
    }
}

impl<T: Scalar> Column for BTreeSet<T> {
    const FORM: Form = Form::Set(T::ATOM);

    fn to_value(&self) -> Option<Value> {
        Some(Value::Set(self.iter().map(Scalar::to_atom).collect()))
    }

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Set(set) => set.iter().map(T::from_atom).collect(),
            _ => None,
        }
    }
}

impl<K: Scalar, V: Scalar> Column for BTreeMap<K, V> {
    const FORM: Form = Form::Map(K::ATOM, V::ATOM);

    fn to_value(&self) -> Option<Value> {
        Some(Value::Map(
            self.iter().map(|(k, v)| (k.to_atom(), v.to_atom())).collect(),
        ))
    }

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Map(map) => map
                .iter()
                .map(|(k, v)| Some((K::from_atom(k)?, V::from_atom(v)?)))
                .collect(),
            _ => None,
        }
    }
}

/// Implements [`Scalar`] for a type, and [`Column`] for exactly one of it.
macro_rules! scalar {
    ($type:ty, $atom:ident, $to:expr, $from:pat => $back:expr) => {
        impl Scalar for $type {
            const ATOM: AtomType = AtomType::$atom;

            fn to_atom(&self) -> Atom {
                #[allow(
                    clippy::redundant_closure_call,
                    reason = "the closure names the macro's argument"
                )]
                Atom::$atom(($to)(self))
            }

            fn from_atom(atom: &Atom) -> Option<Self> {
                match atom {
                    Atom::$atom($from) => $back,
                    _ => None,
                }
            }
        }

        impl Column for $type {
            const FORM: Form = Form::Scalar(AtomType::$atom);

            fn to_value(&self) -> Option<Value> {
                Some(Value::Atom(self.to_atom()))
            }

            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::Atom(atom) => Self::from_atom(atom),
                    _ => None,
                }
            }
        }
    };
}

scalar!(i64, Integer, |number: &i64| *number, number => Some(*number));
scalar!(bool, Boolean, |flag: &bool| *flag, flag => Some(*flag));
scalar!(String, String, |text: &String| text.as_str().into(), text => Some(text.to_string()));
scalar!(Real, Real, |number: &Real| *number, number => Some(*number));
scalar!(Uuid, Uuid, |uuid: &Uuid| *uuid, uuid => Some(*uuid));

impl<T> Scalar for Ref<T> {
    const ATOM: AtomType = AtomType::Uuid;

    fn to_atom(&self) -> Atom {
        match self {
            Self::Key(key, _) => Atom::Named(key.clone()),
            Self::Uuid(uuid) => Atom::Uuid(*uuid),
        }
    }

    fn from_atom(atom: &Atom) -> Option<Self> {
        match atom {
            Atom::Uuid(uuid) => Some(Self::Uuid(*uuid)),
            Atom::Named(key) => Some(Self::to(key.clone())),
            _ => None,
        }
    }
}
