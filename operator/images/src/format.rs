//! The disk formats that a node runs guests from.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A disk format that QEMU may be pointed at.
///
/// Glance knows a dozen; the others are recognised by [`crate::inspect`] and refused with the command that converts
/// them. The names are QEMU's driver names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// QEMU copy-on-write, version 2 or 3.
    Qcow2,
    /// The bytes of the disk, nothing around them. An ISO 9660 image is raw too.
    Raw,
}

impl Format {
    /// QEMU's name of the driver, also used as the file's extension.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no format that a node can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown disk format, expected qcow2 or raw")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    /// Reads `qcow2` or `raw` in any case, so that the API's `QCOW2` works as it is.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Qcow2, Self::Raw]
            .into_iter()
            .find(|format| text.eq_ignore_ascii_case(format.as_str()))
            .ok_or(UnknownFormat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_names_are_read_in_any_case() {
        assert_eq!("QCOW2".parse(), Ok(Format::Qcow2));
        assert_eq!("raw".parse(), Ok(Format::Raw));
        assert_eq!("vmdk".parse::<Format>(), Err(UnknownFormat));
    }
}
