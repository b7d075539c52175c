//! How a table is written down: once, as a struct with the columns' names.

/// A table. After the fields come the columns that are only watched, with whether the database must have them.
macro_rules! table {
    (
        $(#[$about:meta])*
        pub struct $name:ident = $table:literal, $need:ident, $identity:ident {
            $( $(#[$column_about:meta])* $field:ident: $type:ty = $column:literal, $column_need:ident, $extent:ident; )*
        }
        $( watched { $( $watched:literal: $watched_type:ty, $watched_need:ident; )* } )?
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$column_about])* pub $field: $type, )*
        }

        impl $crate::table::Table for $name {
            const SPEC: &'static $crate::table::TableSpec = &$crate::table::TableSpec {
                name: $table,
                need: $crate::table::Need::$need,
                identity: $crate::table::Identity::$identity,
                columns: &[
                    $( $crate::table::ColumnSpec {
                        name: $column,
                        need: $crate::table::Need::$column_need,
                        extent: $crate::table::Extent::$extent,
                        form: <$type as $crate::table::Column>::FORM,
                    }, )*
                    $( $( $crate::table::ColumnSpec {
                        name: $watched,
                        need: $crate::table::Need::$watched_need,
                        extent: $crate::table::Extent::Observed,
                        form: <$watched_type as $crate::table::Column>::FORM,
                    }, )* )?
                ],
            };

            fn desired(&self) -> Vec<(&'static str, $crate::value::Value)> {
                [$( ($column, $crate::table::Column::to_value(&self.$field)), )*]
                    .into_iter()
                    .filter_map(|(column, value)| Some((column, value?)))
                    .collect()
            }

            fn read(row: &$crate::replica::Row) -> Result<Self, $crate::replica::ReadError> {
                Ok(Self { $( $field: row.get($column)?, )* })
            }
        }
    };
}

/// A string of which the schema lists all values. The first one is the default.
macro_rules! words {
    ( $(#[$about:meta])* pub enum $name:ident { $( $(#[$word_about:meta])* $word:ident = $text:literal, )* } ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $( $(#[$word_about])* $word, )* }

        impl $name {
            const ALL: &'static [Self] = &[$( Self::$word, )*];

            /// As OVN writes it.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$word => $text, )* }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::ALL[0]
            }
        }

        impl $crate::table::Scalar for $name {
            const ATOM: $crate::schema::AtomType = $crate::schema::AtomType::String;

            fn to_atom(&self) -> $crate::value::Atom {
                self.as_str().into()
            }

            fn from_atom(atom: &$crate::value::Atom) -> Option<Self> {
                match atom {
                    $crate::value::Atom::String(text) => Self::ALL.iter().copied().find(|word| word.as_str() == &**text),
                    _ => None,
                }
            }
        }

        impl $crate::table::Column for $name {
            const FORM: $crate::table::Form = $crate::table::Form::Scalar($crate::schema::AtomType::String);

            fn to_value(&self) -> Option<$crate::value::Value> {
                Some($crate::value::Value::Atom($crate::table::Scalar::to_atom(self)))
            }

            fn from_value(value: &$crate::value::Value) -> Option<Self> {
                match value {
                    $crate::value::Value::Atom(atom) => $crate::table::Scalar::from_atom(atom),
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use {table, words};
