//! Is this an operator with what it needs? The grammar of Nova's `extra_specs_ops`.

use crate::nearest::did_you_mean;

/// Compare numbers.
const OF_NUMBERS: [&str; 5] = ["==", "!=", ">=", "<=", "="];
/// Compare texts.
const OF_TEXTS: [&str; 6] = ["s==", "s!=", "s>=", "s<=", "s<", "s>"];
/// Nova's words in angle brackets.
const WORDS: [&str; 3] = ["<in>", "<all-in>", "<or>"];

/// Why a value is none that can be compared with; a value without an operator is compared as a text.
pub(super) fn check(value: &str) -> Result<(), String> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let Some((first, rest)) = words.split_first() else {
        return Err("a value is needed".into());
    };
    match *first {
        "<in>" => one(first, rest).map(drop),
        "<all-in>" if rest.is_empty() => Err("<all-in> needs values after it".into()),
        "<all-in>" => Ok(()),
        "<or>" => alternatives(&words),
        operator if OF_NUMBERS.contains(&operator) => number(operator, one(operator, rest)?),
        operator if OF_TEXTS.contains(&operator) => one(operator, rest).map(drop),
        word if word.starts_with('<') && word.ends_with('>') => {
            Err(format!("{word} is no operator{}", did_you_mean(word, WORDS)))
        }
        word if word.starts_with(['<', '>', '=', '!']) => glued(word, rest),
        _ => Ok(()),
    }
}

fn one<'a>(operator: &str, rest: &[&'a str]) -> Result<&'a str, String> {
    match rest {
        [value] => Ok(value),
        [] => Err(format!("{operator} needs a value after it")),
        _ => Err(format!("{operator} takes one value: for several write <or> A <or> B")),
    }
}

fn number(operator: &str, text: &str) -> Result<(), String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(()),
        _ => Err(format!(
            "{operator} compares numbers, and {text:?} is none: write a number, or s{} for texts",
            if operator == "=" { "==" } else { operator }
        )),
    }
}

/// `<or> a <or> b`.
fn alternatives(words: &[&str]) -> Result<(), String> {
    let well_formed = words
        .chunks(2)
        .all(|pair| matches!(pair, ["<or>", value] if !WORDS.contains(value)));
    if well_formed {
        Ok(())
    } else {
        Err("alternatives are written <or> A <or> B".into())
    }
}

fn glued(word: &str, rest: &[&str]) -> Result<(), String> {
    let operator = OF_NUMBERS.iter().find(|operator| word.starts_with(**operator));
    match (operator, rest.is_empty()) {
        (Some(operator), true) => Err(format!(
            "write a space after the operator: {operator} {}",
            &word[operator.len()..]
        )),
        _ => Err(format!(
            "{word:?} is no operator: numbers are compared with {}, texts with {}",
            OF_NUMBERS.join(" "),
            OF_TEXTS.join(" ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nova_s_operators_are_taken() {
        for value in [
            "ssd",
            "two words",
            ">= 4",
            "= 1.5",
            "!= -3",
            "s== x86_64",
            "s< b",
            "<in> avx2",
            "<all-in> aes vmx",
            "<or> a <or> b",
            "<or> a",
        ] {
            assert_eq!(check(value), Ok(()), "{value}");
        }
    }

    #[test]
    fn a_slip_of_the_hand_is_told_with_the_cure() {
        for (value, words) in [
            ("", "a value is needed"),
            ("  ", "a value is needed"),
            (">= many", "compares numbers, and \"many\" is none"),
            ("= x", "or s== for texts"),
            ("== nan", "compares numbers"),
            (">=", "needs a value"),
            (">= 1 2", "takes one value"),
            (">=5", "write a space after the operator: >= 5"),
            ("> 5", "\">\" is no operator"),
            ("s==", "needs a value"),
            ("<in>", "needs a value"),
            ("<all-in>", "needs values"),
            ("<any> a", "<any> is no operator"),
            ("<all_in> a", "did you mean <all-in>?"),
            ("<or> a b", "<or> A <or> B"),
            ("<or> a <or>", "<or> A <or> B"),
            ("<or> <or>", "<or> A <or> B"),
        ] {
            let said = check(value).unwrap_err();
            assert!(said.contains(words), "{value}: {said}");
        }
    }
}
