//! PCIWeigher: few free devices.
//!
//! Nova: `nova/scheduler/weights/pci.py`: 100 less the devices that nobody has, at least 1, whether the request wants any
//! or not. Who wants none stays away from hosts with devices; who wants some fills up the hosts that have the fewest left,
//! so that one that wants many finds them together.

use super::Weigher;
use crate::measure::Measure;

/// See the module.
#[derive(Debug)]
pub(super) struct PCIWeigher;

impl Weigher for PCIWeigher {
    fn name(&self) -> &'static str {
        "PCIWeigher"
    }

    fn multiplier_key(&self) -> &'static str {
        "pci_weight_multiplier"
    }

    fn kept(&self) -> Option<Measure> {
        Some(Measure::FewDevices)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::Host;
    use crate::fixtures::{among, named};
    use crate::topology::{HostTopology, PciDevice};

    fn with_devices(name: &str, count: u32) -> Host {
        let device = |n| PciDevice {
            address: format!("0000:{n:02x}:00.0"),
            alias: "gpu".to_owned(),
            cell: None,
        };
        let topology = HostTopology {
            cells: Vec::new(),
            devices: (0..count).map(device).collect(),
        };
        Host {
            topology: (count > 0).then(|| Arc::new(topology)),
            ..named(name)
        }
    }

    #[test]
    fn hosts_with_few_free_devices_are_preferred() {
        // 100, 98 and 96, scaled to 1, 0.5 and 0.
        let hosts = [
            with_devices("node-1", 2),
            with_devices("node-2", 0),
            with_devices("node-3", 4),
        ];
        assert_eq!(
            among("PCIWeigher", 1.0, &hosts),
            [("node-2", 1.0), ("node-1", 0.5), ("node-3", 0.0)]
        );
    }

    #[test]
    fn from_ninety_nine_devices_on_hosts_are_equal() {
        let hosts = [with_devices("node-1", 99), with_devices("node-2", 250)];
        assert!(
            among("PCIWeigher", 1.0, &hosts)
                .iter()
                .all(|&(_, weight)| weight == 0.0)
        );
    }
}
