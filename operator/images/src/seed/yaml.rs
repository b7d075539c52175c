//! YAML of one shape: a mapping of scalars, and of lists and mappings of scalars. All that strangers wrote is in the
//! scalars.

use std::{collections::BTreeMap, fmt::Write as _};

/// Words that YAML 1.1 (which cloud-init reads) takes for something else than text.
const NOT_TEXT: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "true", "false"];

/// A key on one line with its value has at most 1024 characters (YAML 1.1, 9.2). Longer ones are marked as keys.
const LONGEST_SIMPLE_KEY: usize = 1000;

#[derive(Default)]
pub(super) struct Mapping {
    text: String,
}

impl Mapping {
    pub(super) fn scalar(&mut self, name: &str, value: &str) {
        self.line(&format!("{name}: {}", scalar(value)));
    }

    /// Adds a list; nothing when it is empty.
    pub(super) fn list(&mut self, name: &str, values: &[String]) {
        if !values.is_empty() {
            self.line(&format!("{name}:"));
        }
        for value in values {
            self.line(&format!("- {}", scalar(value)));
        }
    }

    /// Adds a mapping; nothing when it is empty.
    pub(super) fn mapping(&mut self, name: &str, values: &BTreeMap<String, String>) {
        if !values.is_empty() {
            self.line(&format!("{name}:"));
        }
        for (key, value) in values {
            let (key, value) = (scalar(key), scalar(value));
            if key.len() <= LONGEST_SIMPLE_KEY {
                self.line(&format!("  {key}: {value}"));
            } else {
                self.line(&format!("  ? {key}"));
                self.line(&format!("  : {value}"));
            }
        }
    }

    pub(super) fn text(self) -> String {
        self.text
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// Plain where it is beyond doubt, so that the shell scripts of tiny images can read it too; else in double quotes.
fn scalar(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '@' | '.' | '_' | '-' | ' ');
    let is_plain = value.starts_with(|c: char| c.is_ascii_alphabetic())
        && !value.ends_with(' ')
        && value.chars().all(plain)
        && value != "null"
        && !NOT_TEXT.iter().any(|word| value.eq_ignore_ascii_case(word))
        && !value.eq_ignore_ascii_case("null");
    if is_plain { value.to_owned() } else { quoted(value) }
}

/// A double-quoted scalar of printable ASCII. YAML forbids some characters outright, so all others are escaped.
fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            ' '..='~' => text.push(c),
            // Writing to a String can't fail.
            _ => drop(write!(text, "\\U{:08X}", u32::from(c))),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keys_stay_plain() {
        for value in ["web-1", "ssh-ed25519 AAAAC3Nza+/= me@host", "a.b"] {
            assert_eq!(scalar(value), value);
        }
    }

    #[test]
    fn a_key_that_is_too_long_for_its_line_is_marked_as_one() {
        let long = "ü".repeat(255);
        let mut mapping = Mapping::default();
        mapping.mapping("none", &BTreeMap::new());
        mapping.mapping(
            "meta",
            &BTreeMap::from([("tier".to_owned(), "on".to_owned()), (long, "web: 1".to_owned())]),
        );
        let text = mapping.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["meta:", r#"  tier: "on""#]);
        assert!(lines[2].starts_with(r#"  ? "\U000000FC"#), "{text}");
        assert_eq!(lines[3..], [r#"  : "web: 1""#]);
    }

    #[test]
    fn whatever_yaml_could_misread_is_quoted() {
        assert_eq!(scalar("NO"), r#""NO""#);
        assert_eq!(scalar("null"), r#""null""#);
        assert_eq!(scalar("1e3"), r#""1e3""#);
        assert_eq!(scalar("key # comment"), r#""key # comment""#);
        assert_eq!(scalar("a: b"), r#""a: b""#);
        assert_eq!(scalar(r#"a"b\c"#), r#""a\"b\\c""#);
        assert_eq!(scalar("ü\u{7f}😀"), r#""\U000000FC\U0000007F\U0001F600""#);
        assert_eq!(scalar(""), r#""""#);
        assert_eq!(scalar("trailing "), r#""trailing ""#);
    }
}
