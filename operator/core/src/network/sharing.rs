//! Who of other namespaces is plugged into a Network?

use std::collections::BTreeSet;

use virga_crds::{Network, conditions::Reason};

use crate::uses::User;

/// What is to be said of it: whether all is as the Network's sharing is now, why, and in words. Nothing where nobody else may
/// be plugged in, nor is. Others are counted, not named.
pub(super) fn said<'a>(network: &Network, users: impl Iterator<Item = &'a User>) -> Option<(bool, Reason, String)> {
    let own = network.metadata.namespace.as_deref().unwrap_or_default();
    let theirs: Vec<&User> = users
        .filter(|user| user.kind == "Port" && user.namespace != own)
        .collect();
    let (shared, withdrawn): (Vec<&User>, Vec<&User>) = theirs
        .iter()
        .partition(|user| network.spec.is_shared_with(&user.namespace));
    if !withdrawn.is_empty() {
        let message = format!(
            "it isn't shared any more with those who have {}: they keep them until they take those interfaces out, and \
             get no others",
            counted(&withdrawn)
        );
        return Some((false, Reason::SharingWithdrawn, message));
    }
    let with = &network.spec.shared_with;
    let with = match with.len() {
        0 => return None,
        _ if with.iter().any(|with| with == "*") => "all namespaces".to_owned(),
        1 => "1 namespace".to_owned(),
        number => format!("{number} namespaces"),
    };
    let message = match shared.as_slice() {
        [] => format!("shared with {with}, none of which uses it"),
        shared => format!("shared with {with}: they have {}", counted(shared)),
    };
    Some((true, Reason::Shared, message))
}

fn counted(ports: &[&User]) -> String {
    let namespaces: BTreeSet<&str> = ports.iter().map(|port| port.namespace.as_str()).collect();
    let many = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    format!(
        "{} in {}",
        many(ports.len(), "Port"),
        many(namespaces.len(), "namespace")
    )
}

#[cfg(test)]
mod tests {
    use virga_crds::NetworkSpec;

    use super::*;

    #[test]
    fn others_are_counted_and_those_who_lost_it_come_first() {
        let mut network = Network::new("front", NetworkSpec::default());
        network.metadata.namespace = Some("infra".into());
        let port = |namespace: &str, name: &str| User {
            kind: "Port",
            namespace: namespace.into(),
            name: name.into(),
        };
        let users = [
            port("infra", "own"),
            port("shop", "web-1"),
            port("shop", "web-2"),
            port("blog", "web-1"),
        ];
        let with = |network: &mut Network, with: &[&str], users: &[User]| {
            network.spec.shared_with = with.iter().map(|with| (*with).to_owned()).collect();
            said(network, users.iter()).map(|(so, reason, message)| format!("{so} {reason:?} {message}"))
        };
        let mut said = |names: &[&str], users: &[User]| with(&mut network, names, users).unwrap_or_default();
        assert_eq!(said(&[], &users[..1]), "");
        assert_eq!(
            said(&["shop"], &users[..1]),
            "true Shared shared with 1 namespace, none of which uses it"
        );
        assert_eq!(
            said(&["*"], &users),
            "true Shared shared with all namespaces: they have 3 Ports in 2 namespaces"
        );
        let withdrawn = said(&["shop"], &users);
        assert!(withdrawn.starts_with("false SharingWithdrawn") && withdrawn.contains("1 Port in 1 namespace"));
        assert!(said(&[], &users).contains("3 Ports in 2 namespaces"));
        assert!(!said(&[], &users).contains("shop"));
    }
}
