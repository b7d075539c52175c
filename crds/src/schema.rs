//! Schema fragments that several kinds share: bounded maps, Condition lists, names.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A free map of strings, as an Instance's `metadata`: at most 64 keys of 255 characters, values of 1,024.
pub fn string_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 1024},
        "x-kubernetes-validations": [{
            "rule": "self.all(key, size(key) > 0 && size(key) <= 255)",
            "message": "keys have 1 to 255 characters",
        }],
    })
}

/// Labels, as Kubernetes bounds them.
pub fn label_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63},
        "x-kubernetes-validations": [{
            "rule": "self.all(key, size(key) > 0 && size(key) <= 317)",
            "message": "a label's key has 1 to 317 characters",
        }],
    })
}

/// A list of conditions, a map by `type`, so that each can have a writer of its own.
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {"type": "string", "maxLength": 63, "description": "What the condition is about."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
                "reason": {"type": "string", "maxLength": 63, "description": "Why, in one word for programs."},
                "message": {"type": "string", "maxLength": 4096, "description": "Why, in a sentence for people."},
                "lastTransitionTime": {
                    "type": "string", "format": "date-time", "description": "When the status last changed.",
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The generation of the object that this was said of.",
                },
            },
        },
    })
}

/// The name of an object: an RFC 1123 label.
pub fn name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"})
}

/// A name that may hold dots: an RFC 1123 subdomain, as Flavors (`m1.small`) and nodes have.
pub fn dotted_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string", "minLength": 1, "maxLength": 253,
        "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    })
}

/// An address, IPv4 or IPv6.
pub fn address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string", "minLength": 2, "maxLength": 45,
        "x-kubernetes-validations": [{"rule": "isIP(self)", "message": "not an IP address"}],
    })
}

/// The MAC address of one card: not of a group.
pub fn mac(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string", "minLength": 17, "maxLength": 17, "pattern": "^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$",
    })
}

/// The names of a Port's SecurityGroups.
pub fn security_groups(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 16, "x-kubernetes-list-type": "set", "items": name(generator)})
}

/// A network in CIDR notation.
pub fn cidr(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string", "minLength": 4, "maxLength": 49,
        "x-kubernetes-validations": [{
            "rule": "isCIDR(self) && cidr(self) == cidr(self).masked()",
            "message": "not a network in CIDR notation: the host bits must be zero, like 10.0.0.0/24",
        }],
    })
}

/// Numbers of CPUs, as Linux writes a set of them: `0-3,8`.
pub fn cpus(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string", "minLength": 1, "maxLength": 1024,
        "pattern": r"^[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*$",
    })
}

/// Where a PCI device is: domain, bus, slot and function, such as `0000:3b:00.0`.
pub fn pci_address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string", "minLength": 12, "maxLength": 12,
        "pattern": r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$",
    })
}

/// The vendor or the product of a PCI device: four hexadecimal digits, such as `8086`.
pub fn pci_id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 4, "maxLength": 4, "pattern": "^[0-9a-f]{4}$"})
}

/// What operators call a kind of PCI devices: letters, digits, `.`, `_` and `-`.
pub fn pci_alias(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"})
}
