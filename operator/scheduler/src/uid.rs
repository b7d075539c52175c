//! The identity of an Instance or a ServerGroup.

use std::fmt;

/// A Kubernetes object's UID.
///
/// A UUID in its usual lower-case form is kept in 16 bytes, because the cluster index holds one for each Instance. Any
/// other text is kept as it is: Kubernetes calls the format of a UID opaque.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    Uuid([u8; 16]),
    Other(Box<str>),
}

/// Where a UUID in text form has its hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

fn nibble(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// The UUID's bytes, or `None` for anything that would not print back as the same text.
fn parse(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != 36 || HYPHENS.iter().any(|&at| text[at] != b'-') {
        return None;
    }
    let mut digits = text
        .iter()
        .enumerate()
        .filter(|(at, _)| !HYPHENS.contains(at))
        .map(|(_, &byte)| byte);
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        *byte = nibble(digits.next()?)? << 4 | nibble(digits.next()?)?;
    }
    Some(bytes)
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Self(parse(text).map_or_else(|| Repr::Other(text.into()), Repr::Uuid))
    }
}

impl From<String> for Uid {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&String> for Uid {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Other(text) => f.write_str(text),
            Repr::Uuid(bytes) => {
                for (at, byte) in bytes.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uid({self})")
    }
}

/// A hash that is the same in every process and on every run, for choices that have to be repeatable (FNV-1a).
pub(crate) fn stable_hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Uid {
    /// The same in every process and on every run.
    pub(crate) fn stable_hash(&self) -> u64 {
        match &self.0 {
            Repr::Other(text) => stable_hash(text),
            Repr::Uuid(bytes) => bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_prints_as_it_was_read_and_takes_little_room() {
        let text = "0f8fad5b-d9cb-469f-a165-70867728950e";
        assert_eq!(Uid::from(text).to_string(), text);
        assert!(matches!(Uid::from(text).0, Repr::Uuid(_)));
        assert_eq!(size_of::<Uid>(), 24);
    }

    #[test]
    fn any_other_text_is_kept_as_it_is() {
        for text in [
            "",
            "uid-1",
            "0F8FAD5B-D9CB-469F-A165-70867728950E",
            "0f8fad5b-d9cb-469f-a165-7086772895-e",
            &"é".repeat(18),
        ] {
            assert_eq!(Uid::from(text).to_string(), text);
            assert!(matches!(Uid::from(text).0, Repr::Other(_)), "{text}");
        }
    }
}
