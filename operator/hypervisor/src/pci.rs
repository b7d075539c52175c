//! Where a PCI device is.

use std::fmt;
use std::str::FromStr;

/// A PCI device's address: domain, bus, slot and function, as in `0000:3b:00.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// The domain.
    pub domain: u16,
    /// The bus in it.
    pub bus: u8,
    /// The slot on that, at most 31.
    pub slot: u8,
    /// The function of the device there, at most 7.
    pub function: u8,
}

/// The text is no PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reading a PCI address: {0:?} is none, such as 0000:3b:00.0")]
pub struct PciAddressError(String);

impl PciAddress {
    /// The address with these parts; `None` when one is too large (PCI: 5 bits of slot, 3 of function).
    pub fn new(domain: u16, bus: u8, slot: u8, function: u8) -> Option<Self> {
        (slot < 32 && function < 8).then_some(Self {
            domain,
            bus,
            slot,
            function,
        })
    }
}

impl FromStr for PciAddress {
    type Err = PciAddressError;

    fn from_str(text: &str) -> Result<Self, PciAddressError> {
        read(text).ok_or_else(|| PciAddressError(text.chars().take(32).collect()))
    }
}

fn read(text: &str) -> Option<PciAddress> {
    let hex = |part: &str, digits: usize| {
        let ok = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        u16::from_str_radix(part, 16).ok().filter(|_| ok)
    };
    let byte = |part: &str, digits: usize| hex(part, digits).and_then(|number| u8::try_from(number).ok());
    let (domain, rest) = text.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (slot, function) = rest.split_once('.')?;
    PciAddress::new(hex(domain, 4)?, byte(bus, 2)?, byte(slot, 2)?, byte(function, 1)?)
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            slot,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{slot:02x}.{function:x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_the_same() {
        for text in ["0000:3b:00.0", "00ff:ff:1f.7"] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_not_read() {
        for text in [
            "",
            "3b:00.0",
            "0000:3b:20.0",
            "0000:3b:00.8",
            "0000:3b:0.0",
            "0000:3b:00.0 ",
            "+000:3b:00.0",
        ] {
            assert!(text.parse::<PciAddress>().is_err(), "{text}");
        }
    }
}
