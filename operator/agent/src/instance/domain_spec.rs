//! From an Instance to the domain that libvirt is asked for. Pure.

use kube::ResourceExt;
use uuid::Uuid;
use virga_core::{flavor::Machine, volume::device};
use virga_crds::{BuiltFlavor, Instance};
use virga_hypervisor::{
    Affinity, Cache, DiskFormat, DiskLayer, DiskSpec, DomainSpec, DomainType, InterfaceSpec, Owner, PciAddress,
};

use super::machine;
use crate::layout::Layout;

/// TCG's translation cache: without a bound, each guest takes up to 1 GiB of the host beside its own memory.
const TCG_CACHE_MIB: u32 = 32;
/// The longest serial number of a virtio disk.
const SERIAL_BYTES: usize = 20;

/// What a domain is made from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The Instance's uid.
    pub uid: Uuid,
    /// Its size.
    pub flavor: BuiltFlavor,
    /// Its root disk.
    pub root: Root,
    /// What the rescue disk that it boots from lies over, while it is rescued.
    pub rescue: Option<DiskLayer>,
    /// Its volumes, each with libvirt's name for it. While it is rescued they follow the disks before them.
    pub volumes: Vec<(String, Uuid)>,
    /// Its interfaces, the primary one first.
    pub interfaces: Vec<InterfaceSpec>,
    /// Where on the host it runs.
    pub affinity: Affinity,
    /// The host's devices that it has.
    pub pci_devices: Vec<PciAddress>,
    /// The machine that Flavor and image ask for.
    pub machine: Machine,
    /// Whether the host has UEFI with secure boot.
    pub secure_boot: bool,
    /// How the guest is run.
    pub domain_type: DomainType,
    /// The host's architecture.
    pub architecture: String,
    /// How the host caches disks.
    pub cache: Cache,
}

/// What the guest boots from.
#[derive(Clone, Debug)]
pub enum Root {
    /// An overlay over a cached image.
    Overlay(DiskLayer),
    /// A volume.
    Volume(Uuid),
}

/// The domain.
pub fn spec(instance: &Instance, parts: Parts, layout: &Layout) -> DomainSpec {
    let Parts {
        uid,
        flavor,
        root,
        rescue,
        volumes,
        interfaces,
        affinity,
        pci_devices,
        machine,
        secure_boot,
        domain_type,
        architecture,
        cache,
    } = parts;
    let files = layout.instance(uid);
    let owner = owner(instance, uid);
    let title = format!("{}/{}", owner.namespace, owner.name);
    let topology = machine::topology(machine.cpus);
    let mut spec = DomainSpec::new(owner, name(uid), domain_type, topology, flavor.memory.0);
    spec.title = Some(title);
    spec.architecture = architecture;
    let overlay = |place, path, base| DiskSpec {
        backing: vec![base],
        ..DiskSpec::new(device(place), path, DiskFormat::Qcow2)
    };
    let rescued = rescue.is_some();
    // A rescue disk comes first, and all others move by one place, in their order.
    let mut disks: Vec<DiskSpec> = rescue
        .map(|base| overlay(0, files.rescue_disk(), base))
        .into_iter()
        .collect();
    disks.push(match root {
        Root::Overlay(base) => overlay(disks.len(), files.root_disk(), base),
        Root::Volume(volume) => volume_disk(device(disks.len()), volume, layout),
    });
    disks[0].boot_order = Some(1);
    let first = disks.len();
    disks.extend(volumes.into_iter().enumerate().map(|(n, (target, volume))| {
        let target = if rescued { device(first + n) } else { target };
        volume_disk(target, volume, layout)
    }));
    for disk in &mut disks {
        disk.cache = cache;
    }
    spec.disks = disks;
    spec.seed = Some(files.seed());
    spec.interfaces = interfaces;
    spec.affinity = affinity;
    spec.pci_devices = pci_devices;
    spec.console_log = Some(files.console_log());
    spec.vnc_socket = Some(files.vnc_socket());
    spec.tcg_cache_mib = Some(TCG_CACHE_MIB);
    machine::shape(&mut spec, &machine, secure_boot, &files);
    if rescued {
        // What a rescue system sets in its firmware is none of the guest's.
        let own = spec.options.nvram.take();
        spec.options.nvram = own.map(|_| files.rescue_variables());
    }
    spec
}

/// Whose a domain is.
pub(super) fn owner(instance: &Instance, uid: Uuid) -> Owner {
    Owner {
        namespace: instance.namespace().unwrap_or_default(),
        name: instance.name_any(),
        uid,
        generation: instance.metadata.generation.unwrap_or_default(),
    }
}

/// A domain's name: what people see in `virsh list`.
pub fn name(uid: Uuid) -> String {
    let mut digits = uid.simple().to_string();
    digits.truncate(8);
    format!("virga-{digits}")
}

/// The disk of a volume.
pub(super) fn volume_disk(target: String, volume: Uuid, layout: &Layout) -> DiskSpec {
    let mut serial = volume.to_string();
    serial.truncate(SERIAL_BYTES);
    DiskSpec {
        serial: Some(serial),
        ..DiskSpec::new(target, layout.volume(volume), DiskFormat::Qcow2)
    }
}

#[cfg(test)]
mod tests {
    use virga_crds::{Bytes, InstanceSpec};
    use virga_hypervisor::Firmware;

    use super::*;

    fn parts() -> Parts {
        Parts {
            uid: Uuid::from_u128(0x1234_5678_0000_4000_8000_0000_0000_0001),
            flavor: BuiltFlavor {
                name: "m1.small".into(),
                vcpus: 2,
                memory: Bytes::gib(1),
                disk: Bytes::gib(20),
            },
            root: Root::Overlay(DiskLayer {
                path: "/var/lib/virga/images/sha256-00.qcow2".into(),
                format: DiskFormat::Qcow2,
            }),
            rescue: None,
            volumes: vec![("vdb".into(), Uuid::from_u128(7))],
            interfaces: Vec::new(),
            affinity: Affinity::Any,
            pci_devices: Vec::new(),
            machine: machine::tests::machine(&[], &[]),
            secure_boot: true,
            domain_type: DomainType::Qemu,
            architecture: "x86_64".into(),
            cache: Cache::None,
        }
    }

    fn instance() -> Instance {
        let mut instance = Instance::new("web-1", InstanceSpec::default());
        instance.metadata.namespace = Some("shop".into());
        instance.metadata.generation = Some(3);
        instance
    }

    #[test]
    fn a_domain_is_named_and_marked_after_its_instance() {
        let spec = spec(&instance(), parts(), &Layout::new("/var/lib/virga"));
        assert_eq!((spec.name.as_str(), spec.uuid), ("virga-12345678", parts().uid));
        assert_eq!((spec.owner.generation, spec.title.as_deref()), (3, Some("shop/web-1")));
        let targets: Vec<_> = spec.disks.iter().map(|disk| disk.target.as_str()).collect();
        assert_eq!(targets, ["vda", "vdb"]);
        assert_eq!((spec.machine.as_str(), spec.firmware), ("q35", Firmware::Bios));
    }

    #[test]
    fn a_boot_volume_takes_the_place_of_the_root_disk() {
        let boot = Parts {
            root: Root::Volume(Uuid::from_u128(9)),
            ..parts()
        };
        let spec = spec(&instance(), boot, &Layout::new("/var/lib/virga"));
        assert!(spec.disks[0].path.starts_with("/var/lib/virga/volumes"));
        assert_eq!((spec.disks[0].boot_order, spec.disks[0].backing.len()), (Some(1), 0));
    }
}
