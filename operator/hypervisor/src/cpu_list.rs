//! CPU numbers as Linux and libvirt write them: `0-3,8`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The largest CPU number that is read.
pub(crate) const LARGEST_CPU: u32 = 4095;

/// As text; empty for no CPUs.
pub(crate) fn write(cpus: &BTreeSet<u32>) -> String {
    let mut text = String::new();
    let mut left = cpus.iter().copied().peekable();
    while let Some(first) = left.next() {
        let mut last = first;
        while let Some(next) = left.next_if(|next| last.checked_add(1) == Some(*next)) {
            last = next;
        }
        let separator = if text.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = match last - first {
            0 => write!(text, "{separator}{first}"),
            1 => write!(text, "{separator}{first},{last}"),
            _ => write!(text, "{separator}{first}-{last}"),
        };
    }
    text
}

/// From text; `None` when it is not such a list, or has a number above 4095.
pub(crate) fn parse(text: &str) -> Option<BTreeSet<u32>> {
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|&cpu| cpu <= LARGEST_CPU);
    let mut cpus = BTreeSet::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => cpus.extend(number(first)?..=number(last)?),
            None => {
                cpus.insert(number(part)?);
            }
        }
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_back_the_same() {
        for text in ["0", "0,1", "0-3,8", "1,32", "63-65,4095"] {
            assert_eq!(parse(text).map(|cpus| write(&cpus)).as_deref(), Some(text));
        }
        assert_eq!(write(&BTreeSet::new()), "");
    }

    #[test]
    fn what_is_no_list_is_not_read() {
        for text in ["", "a", "1,", "-1", "0-", "4096", "0-99999999999"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
