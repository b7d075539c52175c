//! The operators in values of extra specs: Nova's `nova/scheduler/filters/extra_specs_ops.py`.

/// Whether a value satisfies a requirement such as `>= 16`, `s== EPYC`, `<in> avx2` or `<or> ssd <or> nvme`.
///
/// `=` means "at least", as in Nova. Without an operator the two must be the same. Nova fails the whole request when an
/// operator for numbers meets something else; here such a host does not match.
pub(crate) fn matches(value: &str, requirement: &str) -> bool {
    let mut words = requirement.split_whitespace();
    let Some(operator) = words.next() else {
        return value == requirement;
    };
    match operator {
        "=" | ">=" => numbers(value, words.next()).is_some_and(|(value, wanted)| value >= wanted),
        "<=" => numbers(value, words.next()).is_some_and(|(value, wanted)| value <= wanted),
        #[expect(clippy::float_cmp, reason = "Nova compares exactly")]
        "==" => numbers(value, words.next()).is_some_and(|(value, wanted)| value == wanted),
        #[expect(clippy::float_cmp, reason = "Nova compares exactly")]
        "!=" => numbers(value, words.next()).is_some_and(|(value, wanted)| value != wanted),
        "s==" => words.next().is_some_and(|wanted| value == wanted),
        "s!=" => words.next().is_some_and(|wanted| value != wanted),
        "s<" => words.next().is_some_and(|wanted| value < wanted),
        "s<=" => words.next().is_some_and(|wanted| value <= wanted),
        "s>" => words.next().is_some_and(|wanted| value > wanted),
        "s>=" => words.next().is_some_and(|wanted| value >= wanted),
        "<in>" => words.next().is_some_and(|wanted| value.contains(wanted)),
        "<all-in>" => {
            let mut wanted = words.peekable();
            wanted.peek().is_some() && wanted.all(|wanted| value.contains(wanted))
        }
        // Every second word is a further `<or>`.
        "<or>" => words.step_by(2).any(|wanted| value == wanted),
        _ => value == requirement,
    }
}

fn numbers(value: &str, wanted: Option<&str>) -> Option<(f64, f64)> {
    Some((value.trim().parse().ok()?, wanted?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operator_does_what_nova_s_does() {
        for (value, requirement, expected) in [
            // From nova/tests/unit/scheduler/filters/test_extra_specs_ops.py, one each way.
            ("1", "1", true),
            ("", "1", false),
            ("3", "1", false),
            ("222", "2", false),
            ("123", "= 123", true),
            ("124", "= 123", true),
            ("34", "= 234", false),
            ("34", "=", false),
            ("123", "s== 123", true),
            ("1234", "s== 123", false),
            ("1234", "s!= 123", true),
            ("123", "s!= 123", false),
            ("1000", "s>= 234", false),
            ("1234", "s<= 1000", false),
            ("2", "s< 12", false),
            ("12", "s> 2", false),
            ("12311321", "<in> 11", true),
            ("12310321", "<in> 11", false),
            ("12", "<or> 11 <or> 12", true),
            ("13", "<or> 11 <or> 12", false),
            ("2", "<= 10", true),
            ("3", "<= 2", false),
            ("3", ">= 1", true),
            ("2", ">= 3", false),
            ("2", "== 2.0", true),
            ("2", "!= 3", true),
            ("['aes', 'mmx', 'aux']", "<all-in> aes mmx", true),
            ("['aes', 'mmx', 'aux']", "<all-in> aes txt", false),
            ("['aes', 'mmx', 'aux']", "<all-in>", false),
            ("much", ">= 3", false),
            ("EPYC Milan", "EPYC Milan", true),
            ("", "", true),
        ] {
            assert_eq!(matches(value, requirement), expected, "{value:?} {requirement:?}");
        }
    }
}
