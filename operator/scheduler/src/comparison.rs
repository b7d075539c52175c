//! How a query or a requirement compares.

use crate::Value;

/// An operator that compares two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

impl Comparison {
    /// Whether it is true of two numbers.
    #[inline]
    pub(crate) fn holds(self, left: f64, right: f64) -> bool {
        match self {
            #[expect(
                clippy::float_cmp,
                reason = "the language compares exactly, and figures are whole numbers"
            )]
            Self::Equal | Self::In => left == right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }

    /// Whether it is true of two values; never of a number and a text.
    pub(crate) fn holds_of(self, left: &Value<'_>, right: &Value<'_>) -> bool {
        match (left, right) {
            (Value::Number(left), Value::Number(right)) => self.holds(*left, *right),
            (Value::Text(left), Value::Text(right)) => match self {
                Self::Equal | Self::In => left == right,
                Self::Less => left < right,
                Self::LessOrEqual => left <= right,
                Self::Greater => left > right,
                Self::GreaterOrEqual => left >= right,
            },
            (Value::Truth(left), Value::Truth(right)) => matches!(self, Self::Equal | Self::In) && left == right,
            _ => false,
        }
    }
}
