//! The host's PCI devices, from libvirt's node devices (<https://libvirt.org/formatnode.html>).

use virt::error::ErrorNumber;
use virt::sys;

use crate::error::Result;
use crate::host::{PciFacts, PciKind};
use crate::libvirt::connection::Connection;
use crate::libvirt::error;
use crate::pci::PciAddress;
use crate::xml::Element;

/// More are not looked at. A large host has some hundreds, one with many virtual functions some thousands.
const MAX_DEVICES: usize = 4096;
/// Longer names of drivers are not kept: the kernel's are shorter.
const MAX_DRIVER: usize = 63;

/// All PCI devices, by address. One that goes while we look is left out, and a libvirt without its part for devices
/// has none.
pub fn list(connection: &Connection) -> Result<Vec<PciFacts>> {
    let doing = "listing the host's PCI devices";
    let listed = connection
        .get()
        .list_all_node_devices(sys::VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV);
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) if error.code().is(ErrorNumber::NoSupport) => return Ok(Vec::new()),
        Err(error) => return Err(error::explain(connection, doing, "devices", &error)),
    };
    let mut devices = Vec::new();
    for device in listed.iter().take(MAX_DEVICES) {
        match device.xml_desc(0) {
            Ok(xml) => devices.extend(Element::parse(&xml).ok().as_ref().and_then(read)),
            Err(error) if error.code().is(ErrorNumber::NoNodeDevice) => {}
            Err(error) => return Err(error::explain(connection, doing, "a device", &error)),
        }
    }
    devices.sort_by_key(|device| device.address);
    devices.dedup_by_key(|device| device.address);
    Ok(devices)
}

/// One device; `None` when it is no PCI device or its address or identity can't be read.
fn read(device: &Element) -> Option<PciFacts> {
    let pci = device.all("capability").find(|part| part.get("type") == Some("pci"))?;
    let decimal = |name: &str| pci.find(name).and_then(|part| part.content().parse::<u16>().ok());
    let byte = |name: &str| decimal(name).and_then(|number| u8::try_from(number).ok());
    let identity = |name: &str| hex(pci.find(name)?.get("id")?);
    let driver = device.path(&["driver", "name"]).map(Element::content);
    Some(PciFacts {
        address: PciAddress::new(decimal("domain")?, byte("bus")?, byte("slot")?, byte("function")?)?,
        vendor: identity("vendor")?,
        product: identity("product")?,
        kind: kind(pci),
        cell: pci.find("numa").and_then(|numa| numa.get("node")?.parse().ok()),
        iommu_group: pci
            .find("iommuGroup")
            .and_then(|group| group.get("number")?.parse().ok()),
        driver: driver
            .filter(|name| (1..=MAX_DRIVER).contains(&name.len()))
            .map(ToOwned::to_owned),
    })
}

fn kind(pci: &Element) -> PciKind {
    let part = |kind: &str| pci.all("capability").find(|part| part.get("type") == Some(kind));
    if part("pci-bridge").is_some() || part("cardbus-bridge").is_some() {
        PciKind::Bridge
    } else if part("phys_function").is_some() {
        // The function that it is a part of.
        PciKind::VirtualFunction
    } else if let Some(functions) = part("virt_functions") {
        PciKind::PhysicalFunction {
            virtual_functions: functions.all("address").count(),
        }
    } else {
        PciKind::Plain
    }
}

fn hex(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(xml: &str) -> Option<PciFacts> {
        read(&Element::parse(xml).unwrap())
    }

    #[test]
    fn a_device_of_a_machine_without_an_iommu_has_no_group() {
        let device = device(include_str!("samples/virtio-net.xml")).unwrap();
        assert_eq!(device.address.to_string(), "0000:00:03.0");
        assert_eq!((device.vendor, device.product), (0x1af4, 0x1041));
        assert_eq!(
            (device.kind, device.cell, device.iommu_group),
            (PciKind::Plain, None, None)
        );
        assert_eq!(device.driver.as_deref(), Some("virtio-pci"));
    }

    #[test]
    fn a_physical_function_and_its_virtual_function_are_told_apart() {
        let physical = device(include_str!("samples/physical-function.xml")).unwrap();
        assert_eq!(physical.kind, PciKind::PhysicalFunction { virtual_functions: 2 });
        assert_eq!((physical.cell, physical.iommu_group), (Some(1), Some(49)));
        let virtual_function = device(include_str!("samples/virtual-function.xml")).unwrap();
        assert_eq!(virtual_function.kind, PciKind::VirtualFunction);
        assert_eq!(virtual_function.address.to_string(), "0000:d8:02.1");
        assert_eq!(virtual_function.iommu_group, Some(120));
    }

    #[test]
    fn a_bridge_is_none_that_a_guest_can_have() {
        let bridge = "<device><capability type='pci'><domain>0</domain><bus>0</bus><slot>1</slot><function>0</function>\
                      <product id='0x000c'/><vendor id='0x1b36'/><capability type='pci-bridge'/></capability></device>";
        assert_eq!(device(bridge).unwrap().kind, PciKind::Bridge);
    }

    #[test]
    fn what_has_no_address_or_identity_is_no_device() {
        for part in [
            "",
            "<capability type='net'/>",
            "<capability type='pci'><domain>0</domain></capability>",
            "<capability type='pci'><domain>0</domain><bus>300</bus><slot>1</slot><function>0</function>\
             <product id='0x1'/><vendor id='0x1'/></capability>",
            "<capability type='pci'><domain>0</domain><bus>0</bus><slot>1</slot><function>0</function>\
             <product id='12'/><vendor/></capability>",
        ] {
            assert_eq!(device(&format!("<device>{part}</device>")), None, "{part}");
        }
    }
}
