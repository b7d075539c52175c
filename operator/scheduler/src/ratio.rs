//! Allocation ratios, exact.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many times over an amount of a host is given out: Nova's `cpu_allocation_ratio` and its like.
///
/// Held in millionths, so that `(capacity − reserved) × ratio` is exact: a ratio of `1.1` has no rounding that would
/// let one Instance too many onto a host. Read from text with at most six decimals, as the API carries it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ratio(u64);

/// Why a text is not an allocation ratio.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RatioError {
    /// Something other than digits with at most one decimal point between them.
    #[error("reading the allocation ratio {0:?}: not a decimal number such as 1.5")]
    NotDecimal(String),
    /// More decimals than are kept.
    #[error("reading the allocation ratio {0:?}: more than six decimals")]
    TooFine(String),
    /// Zero would switch a host off (that is what a cordon is for); a huge ratio is a slip of the hand.
    #[error("reading the allocation ratio {0:?}: it must be above 0 and at most 10000")]
    OutOfRange(String),
}

const MILLION: u64 = 1_000_000;
const LARGEST: u64 = 10_000 * MILLION;
/// Enough digits for the largest ratio with leading zeros to spare, and few enough that nothing overflows.
const MOST_WHOLE_DIGITS: usize = 9;

impl Ratio {
    /// Nothing is given out twice.
    pub const ONE: Self = Self(MILLION);
    /// Nova's `initial_cpu_allocation_ratio`.
    pub const FOUR: Self = Self(4 * MILLION);

    /// As Nova shows it.
    #[expect(clippy::cast_precision_loss, reason = "a ratio has no more than 34 bits")]
    pub(crate) fn as_f64(self) -> f64 {
        self.0 as f64 / MILLION as f64
    }

    /// `amount × ratio`, rounded down, or `u64::MAX` where that is larger.
    ///
    /// What is given out are whole units, so comparing with the rounded figure decides exactly as the true one would.
    pub fn of(self, amount: u64) -> u64 {
        let scaled = u128::from(amount) * u128::from(self.0) / u128::from(MILLION);
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

impl FromStr for Ratio {
    type Err = RatioError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(decimals) {
            return Err(RatioError::NotDecimal(text.chars().take(32).collect()));
        }
        if decimals.len() > 6 {
            return Err(RatioError::TooFine(text.chars().take(32).collect()));
        }
        let out_of_range = || RatioError::OutOfRange(text.chars().take(32).collect());
        if whole.len() > MOST_WHOLE_DIGITS {
            return Err(out_of_range());
        }
        let whole: u64 = whole.parse().map_err(|_| out_of_range())?;
        let decimals: u64 = format!("{decimals:0<6}").parse().map_err(|_| out_of_range())?;
        match whole * MILLION + decimals {
            millionths @ 1..=LARGEST => Ok(Self(millionths)),
            _ => Err(out_of_range()),
        }
    }
}

impl TryFrom<String> for Ratio {
    type Error = RatioError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Ratio> for String {
    fn from(ratio: Ratio) -> Self {
        ratio.to_string()
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, decimals) = (self.0 / MILLION, self.0 % MILLION);
        if decimals == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{decimals:06}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ratio({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_read_exactly_and_print_short() {
        for (text, printed) in [
            ("4", "4"),
            ("1.0", "1"),
            ("1.5", "1.5"),
            ("0.000001", "0.000001"),
            ("0010.10", "10.1"),
            ("10000", "10000"),
        ] {
            assert_eq!(text.parse::<Ratio>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn what_is_no_ratio_is_refused_with_the_reason() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "NaN", " 1", "1.2.3", "١"] {
            assert!(
                matches!(text.parse::<Ratio>(), Err(RatioError::NotDecimal(_))),
                "{text:?}"
            );
        }
        assert!(matches!("1.0000001".parse::<Ratio>(), Err(RatioError::TooFine(_))));
        for text in ["0", "0.0", "10000.000001", "99999999999999999999999999"] {
            assert!(
                matches!(text.parse::<Ratio>(), Err(RatioError::OutOfRange(_))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_ratio_times_an_amount_neither_rounds_up_nor_overflows() {
        assert_eq!("1.1".parse::<Ratio>().unwrap().of(10), 11);
        assert_eq!("1.1".parse::<Ratio>().unwrap().of(9), 9);
        assert_eq!("0.3".parse::<Ratio>().unwrap().of(10), 3);
        assert_eq!(Ratio::FOUR.of(u64::MAX), u64::MAX);
        assert_eq!(Ratio::ONE.of(u64::MAX), u64::MAX);
    }
}
