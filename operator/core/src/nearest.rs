//! Which name may have been meant?

/// The number of letters to put in, take out or change (Levenshtein).
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// The known name that is nearest to what was written, if it is near enough to have been meant: fewer than half of the
/// letters differ.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = written.chars().count() / 2;
    let scored = known.into_iter().map(|name| (distance(written, name), name));
    scored.filter(|(far, _)| *far <= most).min().map(|(_, name)| name)
}

/// `; did you mean NAME?`, or nothing.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, known).map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_the_number_of_letters_that_differ() {
        for (a, b, n) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "abd", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (n, n), "{a} {b}");
        }
    }

    #[test]
    fn a_name_that_is_far_from_all_is_near_none() {
        let known = ["hw:cpu_policy", "hw:numa_nodes"];
        assert_eq!(nearest("hw:cpu_polcy", known), Some("hw:cpu_policy"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(did_you_mean("hw:numanodes", known), "; did you mean hw:numa_nodes?");
    }
}
