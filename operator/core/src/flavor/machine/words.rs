//! What there is to choose from, by Nova's words.

/// A choice of a few.
pub trait Choice: Copy + PartialEq + Sized + 'static {
    /// All of them, each with Nova's word.
    const WORDS: &'static [(&'static str, Self)];

    /// Nova's word for it.
    fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, value)| *value == self);
        found.map_or("", |(word, _)| word)
    }
}

/// A choice whose hosts are told apart by traits: the prefix of their names, which end in the word.
pub trait Trait: Choice {
    /// What the names begin with.
    const PREFIX: &'static str;

    /// The trait of hosts that have it.
    fn trait_name(self) -> String {
        trait_name(Self::PREFIX, self.word())
    }

    /// The traits of all.
    fn trait_names() -> Vec<String> {
        Self::WORDS.iter().map(|(_, value)| value.trait_name()).collect()
    }
}

/// os-traits writes `tpm-tis` as `TPM_TIS` and `1.2` as `1_2`.
pub fn trait_name(prefix: &str, word: &str) -> String {
    let word = word.to_ascii_uppercase().replace(['-', '.'], "_");
    format!("{prefix}{word}")
}

macro_rules! choices {
    ($(#[$about:meta])* $name:ident $(: $prefix:literal)? { $($(#[$doc:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $value,)+
        }

        impl Choice for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$value),)+];
        }

        $(impl Trait for $name {
            const PREFIX: &'static str = $prefix;
        })?
    };
}

choices! {
    /// QEMU's machine.
    MachineType {
        /// PCI Express.
        Q35 = "q35",
        /// PCI, as of 1996.
        Pc = "pc",
    }
}
choices! {
    /// What starts the guest's operating system.
    Firmware: "COMPUTE_FIRMWARE_" {
        /// SeaBIOS.
        Bios = "bios",
        /// OVMF or its like.
        Uefi = "uefi",
    }
}
choices! {
    /// Whether only signed boot loaders run.
    SecureBoot {
        /// Any boot loader runs.
        Disabled = "disabled",
        /// Where the host can, only signed ones run.
        Optional = "optional",
        /// Only signed ones run.
        Required = "required",
    }
}
choices! {
    /// What disks are plugged into.
    DiskBus: "COMPUTE_STORAGE_BUS_" {
        /// Each on a device of its own.
        Virtio = "virtio",
        /// virtio-scsi.
        Scsi = "scsi",
        /// AHCI.
        Sata = "sata",
        /// IDE, which the machine `pc` alone has.
        Ide = "ide",
        /// USB.
        Usb = "usb",
    }
}
choices! {
    /// What the CD-ROM is plugged into.
    CdromBus: "COMPUTE_STORAGE_BUS_" {
        /// virtio-scsi.
        Scsi = "scsi",
        /// AHCI.
        Sata = "sata",
        /// IDE, which the machine `pc` alone has.
        Ide = "ide",
        /// USB.
        Usb = "usb",
    }
}
choices! {
    /// The controller of SCSI disks.
    ScsiModel {
        /// virtio-scsi.
        Virtio = "virtio-scsi",
    }
}
choices! {
    /// The network card.
    VifModel: "COMPUTE_NET_VIF_MODEL_" {
        /// virtio-net.
        Virtio = "virtio",
        /// Intel 82540.
        E1000 = "e1000",
        /// Intel 82574, on PCI Express.
        E1000e = "e1000e",
        /// Intel 82576.
        Igb = "igb",
        /// Realtek 8139.
        Rtl8139 = "rtl8139",
        /// VMware's.
        Vmxnet3 = "vmxnet3",
    }
}
choices! {
    /// The graphics card.
    VideoModel: "COMPUTE_GRAPHICS_MODEL_" {
        /// None.
        None = "none",
        /// Standard VGA.
        Vga = "vga",
        /// virtio.
        Virtio = "virtio",
        /// Cirrus Logic.
        Cirrus = "cirrus",
        /// Bochs' display, for UEFI.
        Bochs = "bochs",
        /// VMware's.
        Vmvga = "vmvga",
        /// Red Hat's, of SPICE.
        Qxl = "qxl",
    }
}
choices! {
    /// What tablet and keyboard are plugged into.
    InputBus {
        /// virtio.
        Virtio = "virtio",
        /// USB.
        Usb = "usb",
    }
}
choices! {
    /// The pointing device.
    PointerModel {
        /// A tablet on USB.
        UsbTablet = "usbtablet",
    }
}
choices! {
    /// The device of random numbers.
    RngModel {
        /// virtio-rng.
        Virtio = "virtio",
    }
}
choices! {
    /// What follows when the guest lets its watchdog run out.
    Watchdog {
        /// There is no watchdog.
        Disabled = "disabled",
        /// Nothing follows.
        None = "none",
        /// The guest is halted.
        Pause = "pause",
        /// The guest is switched off.
        Poweroff = "poweroff",
        /// The guest is reset.
        Reset = "reset",
    }
}
choices! {
    /// The version of the TPM.
    TpmVersion: "COMPUTE_SECURITY_TPM_" {
        /// 1.2.
        V1 = "1.2",
        /// 2.0.
        V2 = "2.0",
    }
}
choices! {
    /// How the guest talks to the TPM.
    TpmModel: "COMPUTE_SECURITY_" {
        /// TIS.
        Tis = "tpm-tis",
        /// CRB, of version 2.0 only.
        Crb = "tpm-crb",
    }
}
choices! {
    /// The guest's own IOMMU.
    Viommu: "COMPUTE_VIOMMU_MODEL_" {
        /// VT-d, which the machine `q35` alone has.
        Intel = "intel",
        /// virtio-iommu.
        Virtio = "virtio",
        /// VT-d where there is one, else virtio-iommu.
        Auto = "auto",
    }
}
choices! {
    /// The USB controller.
    UsbModel: "COMPUTE_USB_MODEL_" {
        /// QEMU's.
        Qemu = "qemu-xhci",
        /// NEC's.
        Nec = "nec-xhci",
    }
}
