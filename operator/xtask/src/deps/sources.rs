//! apt's package sources: read in both of their formats, and the backports derived from them.
//!
//! See sources.list(5). The mirror is whichever the machine uses already: its entry for the release gives the backports
//! their addresses and their signing key.

use std::fmt;

/// One entry of apt's sources, as far as backports need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// Options of the entry that say how to fetch and trust: kept as they are, under their deb822 names.
    options: Vec<(String, String)>,
}

/// What the machine's sources say about backports.
#[derive(Debug, PartialEq, Eq)]
pub enum Backports {
    /// A source has them already.
    Present,
    /// This source would give them.
    Missing(Source),
    /// No source has the release itself, so there is nothing to derive them from.
    NoRelease,
}

/// Looks for the backports of a release (its code name) among the machine's sources.
pub fn backports(sources: &[Source], codename: &str) -> Backports {
    let suite = format!("{codename}-backports");
    if sources.iter().any(|source| source.suites.contains(&suite)) {
        return Backports::Present;
    }
    let release = sources.iter().find(|source| {
        source.suites.iter().any(|suite| suite == codename) && source.components.iter().any(|name| name == "main")
    });
    match release {
        Some(release) => Backports::Missing(Source {
            suites: vec![suite],
            components: vec!["main".to_owned()],
            ..release.clone()
        }),
        None => Backports::NoRelease,
    }
}

/// As a deb822 stanza, the content of a `.sources` file.
impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "Types: deb")?;
        writeln!(out, "URIs: {}", self.uris.join(" "))?;
        writeln!(out, "Suites: {}", self.suites.join(" "))?;
        writeln!(out, "Components: {}", self.components.join(" "))?;
        self.options
            .iter()
            .try_for_each(|(name, value)| writeln!(out, "{name}: {value}"))
    }
}

/// The entries for binary packages in a `.sources` file.
pub fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut stanza: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(from_stanza(&stanza));
            stanza.clear();
        } else if line.starts_with([' ', '\t']) {
            // A value goes on: a key block may stand in the file itself.
            if let Some((_, value)) = stanza.last_mut() {
                value.push('\n');
                value.push_str(line.trim_end());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            stanza.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    sources
}

fn from_stanza(stanza: &[(String, String)]) -> Option<Source> {
    // Field names are case-insensitive.
    let value = |wanted: &str| {
        stanza
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    };
    let words = |wanted: &str| -> Vec<String> {
        value(wanted)
            .map(|value| value.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let off = value("Enabled").is_some_and(|value| ["no", "false", "off", "0"].contains(&value.as_str()));
    if off || !words("Types").iter().any(|kind| kind == "deb") {
        return None;
    }
    let described = ["types", "uris", "suites", "components", "enabled"];
    Some(Source {
        uris: words("URIs"),
        suites: words("Suites"),
        components: words("Components"),
        options: stanza
            .iter()
            .filter(|(name, _)| !described.contains(&name.to_ascii_lowercase().as_str()))
            .cloned()
            .collect(),
    })
}

/// The entries for binary packages in a `.list` file: `deb [signed-by=/key.gpg arch=amd64] http://mirror/ suite main`.
pub fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines()
        .filter_map(|line| from_line(line.split('#').next().unwrap_or_default()))
        .collect()
}

fn from_line(line: &str) -> Option<Source> {
    let rest = line
        .trim()
        .strip_prefix("deb")
        .filter(|rest| rest.starts_with([' ', '\t']))?
        .trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let options = options
        .split_whitespace()
        .filter_map(|option| option.split_once('='))
        .map(|(name, value)| {
            let name = match name {
                "arch" => "Architectures".to_owned(),
                "lang" => "Languages".to_owned(),
                "target" => "Targets".to_owned(),
                other => title_case(other),
            };
            // A list is separated by commas here and by spaces there.
            (name, value.replace(',', " "))
        });
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        options: options.collect(),
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
    })
}

/// `signed-by` as `Signed-By`.
fn title_case(name: &str) -> String {
    let mut start = true;
    name.chars()
        .map(|character| {
            let shown = if start {
                character.to_ascii_uppercase()
            } else {
                character
            };
            start = character == '-';
            shown
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN_12: &str = "\
Types: deb deb-src
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";

    fn missing(outcome: Backports) -> String {
        match outcome {
            Backports::Missing(source) => source.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn backports_come_from_the_mirror_and_the_key_of_the_release() {
        let sources = parse_deb822(DEBIAN_12);
        assert_eq!(sources.len(), 2);
        assert_eq!(
            missing(backports(&sources, "bookworm")),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
    }

    #[test]
    fn what_was_derived_is_found_the_next_time() {
        let mut sources = parse_deb822(DEBIAN_12);
        sources.extend(parse_deb822(&missing(backports(&sources, "bookworm"))));
        assert_eq!(backports(&sources, "bookworm"), Backports::Present);
    }

    #[test]
    fn the_one_line_format_keeps_its_options() {
        let text = "# deb http://old.example/debian bookworm main\n\
                    deb-src http://mirror.example/debian bookworm main\n\
                    deb [ signed-by=/key.gpg arch=amd64,i386 check-valid-until=no ] http://mirror.example/debian bookworm main non-free # ours\n";
        let sources = parse_one_line(text);
        assert_eq!(sources.len(), 1);
        assert_eq!(
            missing(backports(&sources, "bookworm")),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\n\
             Signed-By: /key.gpg\nArchitectures: amd64 i386\nCheck-Valid-Until: no\n"
        );
    }

    #[test]
    fn a_plain_line_needs_no_options() {
        let sources = parse_one_line("deb http://mirror.example/debian trixie main\n");
        assert_eq!(
            missing(backports(&sources, "trixie")),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie-backports\nComponents: main\n"
        );
    }

    #[test]
    fn a_key_in_the_file_itself_is_kept() {
        let text = "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\n\
                    Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----\n";
        let derived = missing(backports(&parse_deb822(text), "trixie"));
        let key =
            "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----\n";
        assert!(derived.ends_with(key), "{derived}");
    }

    #[test]
    fn another_release_a_disabled_entry_and_another_component_give_nothing() {
        for text in [
            DEBIAN_12.replace("bookworm", "trixie"),
            format!("Enabled: no\n{DEBIAN_12}"),
            DEBIAN_12.replace("main contrib", "contrib"),
        ] {
            assert_eq!(
                backports(&parse_deb822(&text), "bookworm"),
                Backports::NoRelease,
                "{text}"
            );
        }
    }
}
