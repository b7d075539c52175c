//! Who is who: nodes, offers, and the token that goes with an offer.

use std::{fmt, str::FromStr};

use rustls::crypto::ring;
use serde::{Deserialize, Serialize};
use virga_images::Digest;

/// A node's name in a certificate is the node's name and this, as one DNS name.
pub const AGENT_DOMAIN: &str = "agents.virga.dev";
/// The longest DNS name (RFC 1035, 2.3.4).
const MAX_DNS_NAME: usize = 253;
/// The longest label of one.
const MAX_LABEL: usize = 63;
/// How much of a refused name an error shows.
const SHOWN: usize = 80;

/// The text names nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {rule}")]
pub struct InvalidName {
    what: &'static str,
    text: String,
    rule: &'static str,
}

impl InvalidName {
    fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        let text = text.chars().take(SHOWN).collect();
        Self { what, text, rule }
    }
}

/// A node's name: an RFC 1123 subdomain, as Kubernetes has it, that leaves room for [`AGENT_DOMAIN`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

impl NodeName {
    /// The name in the node's certificate.
    pub fn dns_name(&self) -> String {
        format!("{}.{AGENT_DOMAIN}", self.0)
    }

    /// Reads the name in a certificate. A wildcard is no node.
    pub fn from_dns_name(name: &str) -> Result<Self, InvalidName> {
        let foreign = || InvalidName::new("the certificate's name", name, "it is not of agents.virga.dev");
        let node = name.strip_suffix(AGENT_DOMAIN).and_then(|rest| rest.strip_suffix('.'));
        node.ok_or_else(foreign)?.parse()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |rule| Err(InvalidName::new("the node's name", text, rule));
        if text.len() + 1 + AGENT_DOMAIN.len() > MAX_DNS_NAME {
            return invalid("at most 236 characters");
        }
        if !text.split('.').all(is_label) {
            return invalid("lower case letters, digits, `-` and `.`, each part between dots 1 to 63 long");
        }
        Ok(Self(text.to_owned()))
    }
}

/// Names an offer. The caller chooses it, so that an offer made twice is one offer: the UID of what is moved, for one.
///
/// Lower case letters, digits and `-`, at most 63: it is the name of a file in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OfferId(String);

impl OfferId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OfferId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_label(text) {
            Ok(Self(text.to_owned()))
        } else {
            let rule = "1 to 63 lower case letters, digits and `-`, not at its ends";
            Err(InvalidName::new("the offer's name", text, rule))
        }
    }
}

/// What the receiver must show beside its certificate: 256 random bits, in hexadecimal.
///
/// It is worth nothing to a node that the offer is not for. The ledger keeps its digest only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(String);

/// The machine gave no random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the machine gave no random bits for a token")]
pub struct NoRandomness;

impl Token {
    /// A new one.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bits = [0; 32];
        let random = ring::default_provider().secure_random;
        random.fill(&mut bits).map_err(|_| NoRandomness)?;
        Ok(Self(hex(&bits)))
    }

    /// The text, for the one who is to receive.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it. Comparing digests tells an attacker nothing by the time it takes.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

impl FromStr for Token {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new("the token", "", "64 hexadecimal digits"))
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

macro_rules! is_text {
    ($($name:ident),+) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )+};
}

is_text!(NodeName, OfferId, Token);

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A DNS label of RFC 1123, lower case.
fn is_label(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_LABEL).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('-') && !text.ends_with('-')
}

/// Bytes as hexadecimal digits, lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a String can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_read_back_from_its_dns_name() {
        for name in ["node-1", "a", "node-1.rack-2.example.com", &"n".repeat(63)] {
            let node: NodeName = name.parse().unwrap();
            assert_eq!(NodeName::from_dns_name(&node.dns_name()), Ok(node));
        }
    }

    #[test]
    fn names_that_are_no_nodes_are_refused() {
        let long = vec!["n".repeat(60); 4].join(".");
        for name in [
            "",
            ".",
            "*",
            "a..b",
            "A",
            "-a",
            "a-",
            "a/b",
            "ä",
            &"n".repeat(64),
            &long,
        ] {
            assert!(name.parse::<NodeName>().is_err(), "{name}");
        }
        for name in [
            "agents.virga.dev",
            ".agents.virga.dev",
            "*.agents.virga.dev",
            "node-1xagents.virga.dev",
            "node-1.agents.virga.dev.evil.example",
            "virga-webhook.virga-system.svc",
        ] {
            assert!(NodeName::from_dns_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn an_offer_can_not_be_named_after_a_file_elsewhere() {
        for name in ["", "..", "a/b", "a.json", ".hidden", "A", "a\0", &"a".repeat(64)] {
            assert!(name.parse::<OfferId>().is_err(), "{name}");
        }
        assert!("1b4e28ba-2fa1-11d2-883f-0016d3cca427".parse::<OfferId>().is_ok());
    }

    #[test]
    fn tokens_differ_and_do_not_show_themselves() {
        let (one, other) = (Token::random().unwrap(), Token::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.expose().parse(), Ok(one.clone()));
        assert_eq!(format!("{one:?}"), "Token(..)");
        assert!("short".parse::<Token>().is_err());
    }
}
