use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount of memory or storage in bytes, written as a Kubernetes quantity: `2Gi`, `512Mi`, `20G`, or a plain number.
///
/// Whole bytes only; a fraction is taken when it comes out even (`1.5Gi`). Written back in the largest binary unit that
/// holds the amount exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Why a text is not an amount of bytes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseBytesError {
    /// Not a number with a known suffix.
    #[error(
        "{0:?} is not a quantity of bytes: write a number with Ki, Mi, Gi, Ti, Pi, k, M, G, T, P or no suffix, like 2Gi"
    )]
    Malformed(String),
    /// More than 2^63 - 1 bytes, Kubernetes' own bound, or not a whole number of them.
    #[error("{0:?} is not a whole number of bytes below 8Ei")]
    OutOfRange(String),
}

const UNITS: [(&str, u64); 11] = [
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
    ("", 1),
];

impl Bytes {
    /// None at all.
    pub const ZERO: Self = Self(0);

    /// So many gibibytes.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// So many mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl FromStr for Bytes {
    type Err = ParseBytesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ParseBytesError::Malformed(text.chars().take(64).collect());
        let out_of_range = || ParseBytesError::OutOfRange(text.chars().take(64).collect());
        if text.len() > 64 {
            return Err(malformed());
        }
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (number, suffix) = text.split_at(digits);
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == suffix).ok_or_else(malformed)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
            return Err(malformed());
        }
        let fraction = fraction.trim_end_matches('0');
        let scale = u32::try_from(fraction.len())
            .ok()
            .and_then(|n| 10_u128.checked_pow(n))
            .ok_or_else(out_of_range)?;
        let number: u128 = format!("{whole}{fraction}").parse().map_err(|_| out_of_range())?;
        let scaled = number.checked_mul(u128::from(*unit)).ok_or_else(out_of_range)?;
        if scaled % scale != 0 {
            return Err(out_of_range());
        }
        i64::try_from(scaled / scale)
            .map(|n| Self(n.unsigned_abs()))
            .map_err(|_| out_of_range())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = UNITS
            .iter()
            .take(5)
            .find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit));
        match binary {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity of bytes such as 2Gi")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Bytes, E> {
                n.to_string().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Bytes, E> {
                n.to_string().parse().map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Bytes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": r"^[0-9]{1,19}(\.[0-9]{1,9})?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$",
            "maxLength": 32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suffix_of_kubernetes_is_read() {
        for (text, bytes) in [
            ("0", 0),
            ("1500", 1500),
            ("1k", 1000),
            ("1Ki", 1024),
            ("1.5Gi", 3 << 29),
            ("20G", 20_000_000_000),
            ("2Ti", 2 << 40),
            ("1.50Mi", 3 << 19),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_not_whole_bytes_is_refused() {
        for text in [
            "",
            "Gi",
            "-1",
            "1.",
            "1.2.3Gi",
            "0.3",
            "1e3",
            "9999999999Pi",
            "1 Gi",
            "1gi",
            "٣Gi",
        ] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_written_in_the_largest_exact_unit_and_read_back() {
        for bytes in [0, 1, 1023, 1024, 1536, 1 << 30, 3 << 29, 20_000_000_000, (1 << 62) + 1] {
            let text = Bytes(bytes).to_string();
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        assert_eq!(Bytes::gib(2).to_string(), "2Gi");
        assert_eq!(Bytes::mib(1536).to_string(), "1536Mi");
    }

    #[test]
    fn numbers_and_texts_are_both_taken_from_json() {
        assert_eq!(serde_json::from_str::<Bytes>("0").unwrap(), Bytes::ZERO);
        assert_eq!(serde_json::from_str::<Bytes>("\"2Gi\"").unwrap(), Bytes::gib(2));
        assert!(serde_json::from_str::<Bytes>("-5").is_err());
    }
}
