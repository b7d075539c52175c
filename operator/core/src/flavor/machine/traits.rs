//! Which traits do devices stand for? Those that a host has, and those that a guest needs.
//!
//! A guest needs a trait for what is asked for by name. Our defaults need none: every host has them.

use std::{collections::BTreeSet, sync::LazyLock};

use super::asked::Asked;
use super::words::{
    CdromBus, DiskBus, Firmware, SecureBoot, TpmModel, TpmVersion, Trait, UsbModel, VideoModel, VifModel, Viommu,
    trait_name,
};

const PACKED: &str = "COMPUTE_NET_VIRTIO_PACKED";
const SECURE_BOOT: &str = "COMPUTE_SECURITY_UEFI_SECURE_BOOT";

/// What libvirt says of the devices that a host's guests can have, in its own words, which are Nova's.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceFacts<'a> {
    /// Whether QEMU runs the guests. What each of its versions can do, libvirt does not list.
    pub qemu: bool,
    /// Whether UEFI is there.
    pub uefi: bool,
    /// Whether UEFI with secure boot is there.
    pub secure_boot: bool,
    /// Buses of disks.
    pub disk_buses: &'a [String],
    /// Graphics cards.
    pub video_models: &'a [String],
    /// Models of TPMs that swtpm is behind.
    pub tpm_models: &'a [String],
    /// Their versions.
    pub tpm_versions: &'a [String],
}

/// The traits of a host's devices.
pub fn device_traits(facts: DeviceFacts<'_>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if facts.qemu {
        // Nova has these of every QEMU, too.
        found.extend(VifModel::trait_names());
        found.extend(UsbModel::trait_names());
        found.extend(Viommu::trait_names());
        found.extend([PACKED.to_owned(), Firmware::Bios.trait_name()]);
    }
    found.extend(facts.uefi.then(|| Firmware::Uefi.trait_name()));
    found.extend(facts.secure_boot.then(|| SECURE_BOOT.to_owned()));
    found.extend(listed::<DiskBus>(facts.disk_buses));
    found.extend(listed::<VideoModel>(facts.video_models));
    found.extend(listed::<TpmModel>(facts.tpm_models));
    found.extend(listed::<TpmVersion>(facts.tpm_versions));
    found
}

/// Every trait of a device that a host may be found to have.
pub fn known_device_traits() -> impl Iterator<Item = &'static str> {
    static KNOWN: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut known = vec![PACKED.to_owned(), SECURE_BOOT.to_owned()];
        known.extend(VifModel::trait_names());
        known.extend(UsbModel::trait_names());
        known.extend(Viommu::trait_names());
        known.extend(Firmware::trait_names());
        known.extend(DiskBus::trait_names());
        known.extend(VideoModel::trait_names());
        known.extend(TpmModel::trait_names());
        known.extend(TpmVersion::trait_names());
        known
    });
    KNOWN.iter().map(String::as_str)
}

/// Those of libvirt's words that are a choice here.
fn listed<T: Trait>(words: &[String]) -> impl Iterator<Item = String> {
    let known = words
        .iter()
        .filter(|word| T::WORDS.iter().any(|(known, _)| known == word));
    known.map(|word| trait_name(T::PREFIX, word))
}

/// What a host must have for what is asked for by name.
pub(super) fn required(flavor: &Asked, image: &Asked) -> BTreeSet<String> {
    let mut required = BTreeSet::new();
    let mut need = |name: Option<String>| required.extend(name);
    need(image.firmware.map(Trait::trait_name));
    need(image.disk_bus.map(Trait::trait_name));
    need(image.cdrom_bus.map(<CdromBus as Trait>::trait_name));
    need(image.vif_model.map(Trait::trait_name));
    need(image.video_model.map(Trait::trait_name));
    need(flavor.tpm_version.or(image.tpm_version).map(Trait::trait_name));
    need(flavor.tpm_model.or(image.tpm_model).map(Trait::trait_name));
    need(flavor.viommu.or(image.viommu).map(Trait::trait_name));
    need(flavor.usb.or(image.usb).map(Trait::trait_name));
    let packed = flavor.packed_ring.or(image.packed_ring) == Some(true);
    need(packed.then(|| PACKED.to_owned()));
    let secure = flavor.secure_boot.or(image.secure_boot) == Some(SecureBoot::Required);
    need(secure.then(|| SECURE_BOOT.to_owned()));
    required
}
