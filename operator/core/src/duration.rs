//! How long is `90s`?

use std::time::Duration;

/// A number and `s`, `m` or `h`; `None` for what the schema does not let in.
pub fn read(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let number: u32 = number.parse().ok()?;
    Some(Duration::from_secs(u64::from(number) * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_a_time_and_nothing_else_is() {
        assert_eq!(read("90s"), Some(Duration::from_secs(90)));
        assert_eq!(read("2m"), Some(Duration::from_mins(2)));
        assert_eq!(read("3h"), Some(Duration::from_hours(3)));
        for text in ["", "s", "5", "5d", "ß", "-1s"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
