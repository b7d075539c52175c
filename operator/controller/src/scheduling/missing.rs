//! What is said of something that an Instance names and that is not there: its field, the cure, and what may have been
//! meant.

use virga_core::nearest::distance;
use virga_crds::conditions::Reason;

use super::obstacle::Obstacle;

/// What an Instance names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Flavor,
    Image,
    Volume,
    ServerGroup,
    Instance,
}

/// The key under which the appearance of a Flavor is told.
pub fn flavor_key(name: &str) -> String {
    format!("Flavor/{name}")
}

/// The key under which the appearance of an object in a namespace is told.
pub fn key(kind: &str, namespace: &str, name: &str) -> String {
    format!("{kind}/{namespace}/{name}")
}

/// `namespaces`: where the Instance is, and where the object is looked for.
pub(super) fn missing(
    what: Named,
    field: &str,
    namespaces: Option<(&str, &str)>,
    name: &str,
    known: impl Iterator<Item = String>,
) -> Obstacle {
    let (kind, reason) = match what {
        Named::Flavor => ("Flavor", Reason::FlavorNotFound),
        Named::Image => ("Image", Reason::ImageNotFound),
        Named::Volume => ("Volume", Reason::VolumeNotFound),
        Named::ServerGroup => ("ServerGroup", Reason::ServerGroupNotFound),
        Named::Instance => ("Instance", Reason::InstanceNotFound),
    };
    let place = match namespaces {
        Some((here, there)) if here == there => format!(" in namespace {there}"),
        Some((_, there)) => format!(" that namespace {there} shares"),
        None => String::new(),
    };
    let waits_for = namespaces.map_or_else(|| flavor_key(name), |(_, there)| key(kind, there, name));
    let message = format!(
        "there is no {kind} {name:?}{place}: create it{}",
        suggestion(name, known)
    );
    Obstacle {
        reason,
        field: field.into(),
        message,
        waits_for,
        stuck: false,
    }
}

/// How many names are offered.
const SUGGESTIONS: usize = 3;
/// How many names are looked at: a typo is not worth more.
const LOOKED_AT: usize = 1000;

/// The names that are nearest to what was written, else some that there are.
fn suggestion(name: &str, known: impl Iterator<Item = String>) -> String {
    let mut known: Vec<(usize, String)> = known
        .take(LOOKED_AT)
        .map(|candidate| (distance(name, &candidate), candidate))
        .collect();
    known.sort_unstable();
    let close = name.chars().count() / 2;
    let near: Vec<_> = known
        .iter()
        .filter(|(distance, _)| *distance <= close)
        .take(SUGGESTIONS)
        .collect();
    let (words, names) = match (near.is_empty(), known.is_empty()) {
        (false, _) => ("or did you mean", near),
        (true, false) => (
            "or name one that there is, such as",
            known.iter().take(SUGGESTIONS).collect(),
        ),
        (true, true) => return String::new(),
    };
    let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
    let end = if words.starts_with("or did") { "?" } else { "" };
    format!(", {words} {}{end}", names.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggested(name: &str, known: &[&str]) -> String {
        suggestion(name, known.iter().map(ToString::to_string))
    }

    #[test]
    fn names_that_are_near_are_offered_first() {
        let known = ["m1.small", "m1.medium", "g1.huge"];
        assert_eq!(suggested("m1.smal", &known), ", or did you mean m1.small?");
        assert_eq!(
            suggested("c9", &known[2..]),
            ", or name one that there is, such as g1.huge"
        );
        assert_eq!(suggested("x", &[]), "");
    }
}
