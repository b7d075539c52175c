//! MAC addresses.

use std::fmt;
use std::str::FromStr;

/// A 48-bit MAC address. Shown as libvirt writes it: lower case, colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Whether it names a group instead of one interface (IEEE 802: the first byte's lowest bit).
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// The DHCP unique identifier that a client derives from its address alone (RFC 8415, 11.4: DUID-LL).
    pub(crate) fn duid(self) -> String {
        format!("00:03:00:01:{self}")
    }

    pub(crate) fn from_duid(duid: &str) -> Option<Self> {
        duid.strip_prefix("00:03:00:01:")?.parse().ok()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

/// Not six pairs of hexadecimal digits with colons between them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address such as fa:16:3e:00:00:01")]
pub struct MacError(String);

impl FromStr for MacAddress {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let error = || MacError(text.chars().take(64).collect());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(error)?;
            if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(error());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() {
            Err(error())
        } else {
            Ok(MacAddress(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_is_read_in_any_case_and_shown_in_lower_case() {
        let mac: MacAddress = "FA:16:3e:00:0A:01".parse().unwrap();
        assert_eq!(mac.to_string(), "fa:16:3e:00:0a:01");
        assert_eq!(MacAddress::from_duid(&mac.duid()), Some(mac));
    }

    #[test]
    fn what_is_not_a_mac_address_is_refused() {
        for text in [
            "",
            "fa:16:3e:00:0a",
            "fa:16:3e:00:0a:01:02",
            "fa-16-3e-00-0a-01",
            "fa:16:3e:00:0a:+1",
            "fa:16:3e:0:0a:01",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }
}
