//! The three amounts that every Instance asks for and every host offers.

use serde::{Deserialize, Serialize};

/// What an Instance asks for, or what a host has.
///
/// The resource classes VCPU, MEMORY_MB and DISK_GB of Placement, but in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Virtual processors of an Instance; hardware threads of a host.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Local disk in bytes.
    pub disk_bytes: u64,
}

impl Resources {
    /// Whether each of the three amounts is at most that of `room`.
    pub fn fits_in(&self, room: &Self) -> bool {
        self.vcpus <= room.vcpus && self.memory_bytes <= room.memory_bytes && self.disk_bytes <= room.disk_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_amount_too_large_does_not_fit() {
        let room = Resources {
            vcpus: 4,
            memory_bytes: 8,
            disk_bytes: 16,
        };
        assert!(room.fits_in(&room));
        assert!(!Resources { vcpus: 5, ..room }.fits_in(&room));
        assert!(
            !Resources {
                memory_bytes: 9,
                ..room
            }
            .fits_in(&room)
        );
        assert!(!Resources { disk_bytes: 17, ..room }.fits_in(&room));
    }
}
