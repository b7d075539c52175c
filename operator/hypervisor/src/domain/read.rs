//! [`Devices`] from libvirt's XML.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::devices::{DeviceName, Devices, DiskDevice, InterfaceDevice};
use crate::clean::clean;
use crate::network::MacAddress;
use crate::owner::{DOMAIN_NAMESPACE, Owner};
use crate::xml::Element;

/// More disks or interfaces than any of ours can have: such a domain is not read at all.
const MAX_DEVICES: usize = 256;

/// Reads libvirt's description of a domain. `None`: it is written in a way that we don't know.
pub(crate) fn devices(document: &str) -> Option<Devices> {
    let root = Element::parse(document).ok()?;
    let devices = root.find("devices")?;
    let disks: Vec<DiskDevice> = devices.all("disk").map(disk).collect::<Option<_>>()?;
    let interfaces: Vec<InterfaceDevice> = devices.all("interface").map(interface).collect::<Option<_>>()?;
    if disks.len() > MAX_DEVICES || interfaces.len() > MAX_DEVICES {
        return None;
    }
    let vcpu = root.find("vcpu")?;
    let memory = root.find("memory")?;
    let kib: u64 = match memory.get("unit") {
        None | Some("KiB") => memory.content().parse().ok()?,
        Some(_) => return None,
    };
    Some(Devices {
        disks,
        interfaces,
        vcpus: vcpu.get("current").unwrap_or_else(|| vcpu.content()).parse().ok()?,
        memory_bytes: kib.checked_mul(1024)?,
        title: root.find("title").map(|title| title.content().to_owned()),
        owner: owner(&root),
        free_ports: free_ports(devices),
    })
}

/// libvirt's own words for one device, which it understands when that is to be unplugged.
pub(crate) fn device_xml(document: &str, name: &DeviceName) -> Option<String> {
    let root = Element::parse(document).ok()?;
    let devices = root.find("devices")?;
    let found = match name {
        DeviceName::Disk(path) => devices.all("disk").find(|disk| file_of(disk) == Some(path.as_path())),
        DeviceName::Interface(mac) => devices
            .all("interface")
            .find(|interface| mac_of(interface) == Some(*mac)),
    };
    found.map(Element::write)
}

fn owner(root: &Element) -> Option<Owner> {
    Owner::from_element(root.find("metadata")?.child_in_namespace(DOMAIN_NAMESPACE)?)
}

fn disk(element: &Element) -> Option<DiskDevice> {
    Some(DiskDevice {
        target: element.find("target")?.get("dev")?.to_owned(),
        path: file_of(element).map(PathBuf::from),
    })
}

fn file_of(disk: &Element) -> Option<&Path> {
    disk.find("source")?.get("file").map(Path::new)
}

fn interface(element: &Element) -> Option<InterfaceDevice> {
    let alias = element.find("alias").and_then(|alias| alias.get("name"));
    Some(InterfaceDevice {
        mac: mac_of(element)?,
        alias: alias.map(ToOwned::to_owned),
        device: element.find("target").and_then(|target| target.get("dev")).map(clean),
    })
}

fn mac_of(interface: &Element) -> Option<MacAddress> {
    interface.find("mac")?.get("address")?.parse().ok()
}

/// The PCIe root ports with nothing in them. A port's index is the number of the bus behind it, and each holds one device.
fn free_ports(devices: &Element) -> Option<u32> {
    let ports: BTreeSet<u32> = devices
        .all("controller")
        .filter(|controller| controller.get("model") == Some("pcie-root-port"))
        .filter_map(|controller| controller.get("index")?.parse().ok())
        .collect();
    if ports.is_empty() {
        return None;
    }
    let taken: BTreeSet<u32> = devices
        .elements()
        .flat_map(|device| device.all("address"))
        .filter(|address| address.get("type") == Some("pci"))
        .filter_map(|address| number(address.get("bus")?))
        .collect();
    u32::try_from(ports.difference(&taken).count()).ok()
}

/// libvirt writes buses as `0x02`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RUNNING: &str = r"
<domain type='qemu' id='3'>
  <title>shop/web-1</title>
  <memory unit='KiB'>65536</memory>
  <currentMemory unit='KiB'>32768</currentMemory>
  <vcpu placement='static' current='1'>2</vcpu>
  <devices>
    <disk type='file' device='disk'>
      <source file='/d/root.qcow2' index='2'/>
      <backingStore type='file' index='3'><format type='qcow2'/><source file='/d/base.qcow2'/><backingStore/></backingStore>
      <target dev='vda' bus='virtio'/>
      <alias name='virtio-disk0'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
    </disk>
    <disk type='block' device='disk'><source dev='/dev/sdx'/><target dev='vdx' bus='virtio'/></disk>
    <controller type='pci' index='0' model='pcie-root'/>
    <controller type='pci' index='1' model='pcie-root-port'><address type='pci' bus='0x00' slot='0x02'/></controller>
    <controller type='pci' index='2' model='pcie-root-port'><address type='pci' bus='0x00' slot='0x02'/></controller>
    <controller type='pci' index='3' model='pcie-root-port'><address type='pci' bus='0x00' slot='0x02'/></controller>
    <interface type='network'>
      <mac address='fa:16:3e:00:00:01'/>
      <source network='virga-1' bridge='vbr1'/>
      <target dev='vnet7'/>
      <alias name='ua-7'/>
      <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>
    </interface>
    <hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x03' slot='0x00'/></source></hostdev>
  </devices>
</domain>";

    #[test]
    fn what_is_plugged_in_is_read_and_the_ports_left_are_counted() {
        let read = devices(RUNNING).unwrap();
        assert_eq!(
            (read.vcpus, read.memory_bytes, read.title.as_deref()),
            (1, 64 << 20, Some("shop/web-1"))
        );
        let disks: Vec<_> = read
            .disks
            .iter()
            .map(|disk| (disk.target.as_str(), disk.path.as_deref()))
            .collect();
        assert_eq!(disks, [("vda", Some(Path::new("/d/root.qcow2"))), ("vdx", None)]);
        assert_eq!(read.interfaces[0].alias.as_deref(), Some("ua-7"));
        assert_eq!(read.free_ports, Some(1), "a port's own address is on the root bus");
    }

    #[test]
    fn a_device_is_found_in_libvirts_own_words() {
        let disk = device_xml(RUNNING, &DeviceName::Disk("/d/root.qcow2".into())).unwrap();
        assert!(
            disk.starts_with("<disk") && disk.contains("vda") && disk.contains("virtio-disk0"),
            "{disk}"
        );
        assert_eq!(device_xml(RUNNING, &DeviceName::Disk("/d/base.qcow2".into())), None);
        let mac = "fa:16:3e:00:00:01".parse().unwrap();
        assert!(
            device_xml(RUNNING, &DeviceName::Interface(mac))
                .unwrap()
                .contains("ua-7")
        );
    }

    #[test]
    fn a_machine_without_root_ports_counts_none() {
        let plain = RUNNING.replace("pcie-root-port", "pci-bridge");
        assert_eq!(devices(&plain).unwrap().free_ports, None);
    }

    proptest! {
        #[test]
        fn reading_anything_ends_without_a_panic(document in "\\PC{0,200}|(<(domain|devices|disk|vcpu|memory)/?>?){0,20}") {
            let _ = devices(&document);
        }
    }
}
