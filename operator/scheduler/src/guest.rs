//! What kind of guest does an image need? Its properties, in the words that hosts use.

use crate::{Options, Platform, Request};

/// What an image asks of a host's hypervisor and processor.
#[derive(Debug, Default)]
pub(crate) struct Guest<'a> {
    architecture: Option<String>,
    hypervisor: Option<String>,
    mode: Option<String>,
    version: Option<&'a str>,
    maxphysaddr_bits: Option<u32>,
}

/// What of it a host lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// It runs no such guests.
    Kind,
    /// Its hypervisor has another version.
    Version,
    /// Its processor has narrower addresses.
    AddressBits,
}

impl<'a> Guest<'a> {
    pub(crate) fn of(request: &'a Request, options: &Options) -> Self {
        let property = |key: &str| {
            let image = request.image.as_ref()?;
            image
                .properties
                .get(key)
                .map(String::as_str)
                .filter(|value| !value.is_empty())
        };
        let architecture = property("hw_architecture")
            .or(request.architecture.as_deref())
            .or(options.image_properties_default_architecture.as_deref());
        Self {
            architecture: architecture.map(canonical_architecture),
            hypervisor: property("img_hv_type").map(str::to_lowercase),
            mode: property("hw_vm_mode").map(canonical_mode),
            version: property("img_hv_requested_version"),
            maxphysaddr_bits: property("hw_maxphysaddr_bits").and_then(|bits| bits.parse().ok()),
        }
    }

    /// Whether any host will do. As in Nova, a version or a width of addresses alone asks for nothing.
    pub(crate) fn is_any(&self) -> bool {
        self.architecture.is_none() && self.hypervisor.is_none() && self.mode.is_none()
    }

    /// Whether a host of this platform can run it.
    pub(crate) fn check(&self, platform: &Platform) -> Result<(), Lack> {
        let same = |wanted: &Option<String>, offered: &str| wanted.as_ref().is_none_or(|wanted| wanted == offered);
        let kind = platform.supported.iter().any(|supported| {
            same(&self.architecture, &supported.architecture)
                && same(&self.hypervisor, &supported.hypervisor)
                && same(&self.mode, &supported.mode)
        });
        if !kind {
            return Err(Lack::Kind);
        }
        let version = platform.hypervisor_version;
        if version > 0 && self.version.is_some_and(|wanted| !satisfies(version, wanted)) {
            return Err(Lack::Version);
        }
        let bits = platform.cpu.maxphysaddr_bits;
        if bits > 0 && self.maxphysaddr_bits.is_some_and(|wanted| bits < wanted) {
            return Err(Lack::AddressBits);
        }
        Ok(())
    }
}

/// Nova: `Architecture.canonicalize` in `nova/objects/fields.py`.
fn canonical_architecture(name: &str) -> String {
    let name = name.to_lowercase();
    match name.as_str() {
        "i386" | "i486" | "i586" | "x86_32" | "x86_32p" => "i686".to_owned(),
        "amd64" => "x86_64".to_owned(),
        _ => name,
    }
}

/// Nova: `VMMode.canonicalize` in `nova/objects/fields.py`.
fn canonical_mode(name: &str) -> String {
    let name = name.to_lowercase();
    match name.as_str() {
        "pv" => "xen".to_owned(),
        "hv" | "baremetal" => "hvm".to_owned(),
        _ => name,
    }
}

/// Whether a version, as Nova numbers them, satisfies predicates such as `>=8.0,<9`. What is no predicate is never
/// satisfied; Nova fails the whole request then.
fn satisfies(version: u32, predicates: &str) -> bool {
    let version = [version / 1_000_000, version / 1000 % 1000, version % 1000];
    predicates.split(',').all(|predicate| {
        let predicate = predicate.trim();
        let digits = predicate.find(|c: char| c.is_ascii_digit()).unwrap_or(predicate.len());
        let (operator, wanted) = predicate.split_at(digits);
        let mut parts = [0; 3];
        for (at, part) in wanted.trim().split('.').enumerate() {
            match (parts.get_mut(at), part.parse()) {
                (Some(place), Ok(number)) => *place = number,
                _ => return false,
            }
        }
        match operator.trim() {
            "<" => version < parts,
            "<=" => version <= parts,
            ">" => version > parts,
            ">=" => version >= parts,
            "==" => version == parts,
            "!=" => version != parts,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_part_by_part() {
        for (predicates, expected) in [
            (">=8.0", true),
            (">= 8.2.0, < 9", true),
            ("==8.2", true),
            ("!=8.2.0", false),
            (">8.2", false),
            ("<8.10", true),
            ("8.2", false),
            (">=", false),
            (">=8.x", false),
            (">=8.2.0.1", false),
        ] {
            assert_eq!(satisfies(8_002_000, predicates), expected, "{predicates}");
        }
    }

    #[test]
    fn names_are_read_as_nova_reads_them() {
        assert_eq!(canonical_architecture("AMD64"), "x86_64");
        assert_eq!(canonical_architecture("i386"), "i686");
        assert_eq!(canonical_mode("PV"), "xen");
    }
}
