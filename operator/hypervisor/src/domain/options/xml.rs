//! libvirt's XML for what differs from our defaults, as Nova's libvirt driver writes it.

use std::path::Path;

use super::{
    Bandwidth, DiskBus, InputBus, InterfaceOptions, IoRate, IoTune, Iommu, Tpm, UsbController, WatchdogAction,
};
use crate::domain::spec::{DomainSpec, DomainType, Firmware, SEED_TARGET, Video};
use crate::xml::Element;

/// How long the firmware's menu is shown, in milliseconds (Nova leaves it to the firmware, which hardly shows it).
const MENU_MS: u32 = 5_000;
/// Nova's Hyper-V interfaces without those that only an Intel host has.
const HYPERV: [&str; 9] = [
    "relaxed",
    "vapic",
    "vpindex",
    "runtime",
    "synic",
    "reset",
    "frequencies",
    "tlbflush",
    "ipi",
];

fn on(name: &str) -> Element {
    Element::new(name).attr("state", "on")
}

/// What the affinity says of `<cputune>`, with the shares and the quota.
pub fn cpu_tune(spec: &DomainSpec, affinity: Option<Element>) -> Option<Element> {
    let tune = spec.options.cpu_tune;
    let said = [
        ("shares", tune.shares.map(u64::from)),
        ("period", tune.period_us.map(u64::from)),
        ("quota", tune.quota_us),
    ];
    let said = said.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let said: Vec<Element> = said
        .map(|(name, value)| Element::new(name).text(value.to_string()))
        .collect();
    if said.is_empty() {
        return affinity;
    }
    Some(affinity.unwrap_or_else(|| Element::new("cputune")).children(said))
}

/// What the affinity says of `<memoryBacking>`, locked.
pub fn memory_backing(spec: &DomainSpec, affinity: Option<Element>) -> Option<Element> {
    if !spec.options.locked_memory {
        return affinity;
    }
    let backing = affinity.unwrap_or_else(|| Element::new("memoryBacking"));
    Some(backing.child(Element::new("locked")))
}

/// What `<os>` has beside type and firmware.
pub fn os(spec: &DomainSpec) -> Vec<Element> {
    let variables = spec.options.nvram.as_deref();
    let variables = variables.filter(|_| matches!(spec.firmware, Firmware::Uefi { .. }));
    let menu = Element::new("bootmenu")
        .attr("enable", "yes")
        .attr("timeout", MENU_MS.to_string());
    let variables = variables.map(|path| Element::new("nvram").text(path.to_string_lossy()));
    variables
        .into_iter()
        .chain(spec.options.boot_menu.then_some(menu))
        .collect()
}

/// What `<features>` has beside our own.
pub fn features(spec: &DomainSpec) -> Vec<Element> {
    let options = &spec.options;
    let mut features = Vec::new();
    if hyperv(spec) {
        let mut hyperv = Element::new("hyperv")
            .attr("mode", "custom")
            .children(HYPERV.into_iter().map(on))
            .child(on("spinlocks").attr("retries", "8191"));
        if options.hide_hypervisor {
            // Drivers that refuse to run in a guest know Hyper-V's own name.
            hyperv = hyperv.child(on("vendor_id").attr("value", "1234567890ab"));
        }
        features.push(hyperv);
    }
    if options.hide_hypervisor {
        features.push(Element::new("kvm").child(on("hidden")));
    }
    if let Some(pmu) = options.pmu {
        features.push(Element::new("pmu").attr("state", if pmu { "on" } else { "off" }));
    }
    if options.iommu == Some(Iommu::Intel) {
        // Remapped interrupts need the controller outside of the kernel.
        features.push(Element::new("ioapic").attr("driver", "qemu"));
    }
    features
}

/// Only KVM has Hyper-V's interfaces.
fn hyperv(spec: &DomainSpec) -> bool {
    spec.options.windows && spec.domain_type == DomainType::Kvm
}

/// The clock, with these timers of ours.
pub fn clock(spec: &DomainSpec, x86: bool) -> Element {
    let clock = Element::new("clock").attr("offset", if spec.options.windows { "localtime" } else { "utc" });
    let timer = |name: &str| Element::new("timer").attr("name", name);
    let hpet = |present: bool| timer("hpet").attr("present", if present { "yes" } else { "no" });
    if spec.domain_type != DomainType::Kvm || !x86 {
        return clock.child_if((spec.options.hpet && x86).then(|| hpet(true)));
    }
    // Nova's timers: catch up lost RTC ticks, delay PIT ticks, no HPET unless it is asked for.
    clock
        .child(timer("rtc").attr("tickpolicy", "catchup"))
        .child(timer("pit").attr("tickpolicy", "delay"))
        .child(hpet(spec.options.hpet))
        .child_if(hyperv(spec).then(|| timer("hypervclock").attr("present", "yes")))
}

/// What a disk may do.
pub fn io_tune(tune: &IoTune) -> Option<Element> {
    let rates: [(&str, &IoRate); 6] = [
        ("total_bytes_sec", &tune.total_bytes),
        ("read_bytes_sec", &tune.read_bytes),
        ("write_bytes_sec", &tune.write_bytes),
        ("total_iops_sec", &tune.total_iops),
        ("read_iops_sec", &tune.read_iops),
        ("write_iops_sec", &tune.write_iops),
    ];
    // libvirt's schema has all rates first, then all bursts, then how long each is.
    let kind = |suffix: &'static str, value: fn(&IoRate) -> Option<u64>| {
        rates.into_iter().filter_map(move |(name, rate)| {
            Some(Element::new(format!("{name}{suffix}")).text(value(rate)?.to_string()))
        })
    };
    let all: Vec<Element> = kind("", |rate| rate.sustained)
        .chain(kind("_max", |rate| rate.burst))
        .chain(kind("_max_length", |rate| rate.burst_seconds.map(u64::from)))
        .collect();
    (!all.is_empty()).then(|| Element::new("iotune").children(all))
}

/// What an interface may do.
pub fn bandwidth(options: &InterfaceOptions) -> Option<Element> {
    let way = |name: &str, bandwidth: Bandwidth| {
        Element::new(name)
            .attr("average", bandwidth.average_kib.to_string())
            .attr_if("peak", bandwidth.peak_kib.map(|kib| kib.to_string()))
            .attr_if("burst", bandwidth.burst_kib.map(|kib| kib.to_string()))
    };
    let inbound = options.inbound.map(|bandwidth| way("inbound", bandwidth));
    let outbound = options.outbound.map(|bandwidth| way("outbound", bandwidth));
    let any = inbound.is_some() || outbound.is_some();
    any.then(|| Element::new("bandwidth").child_if(inbound).child_if(outbound))
}

/// The seed. As a virtio disk: a CD-ROM may show up too late for cloud-init's NoCloud, so it is one only when asked for.
pub fn seed(spec: &DomainSpec, path: &Path) -> Element {
    let (device, target, bus) = match spec.options.cdrom {
        None => ("disk", SEED_TARGET, DiskBus::Virtio),
        // The last of IDE's four places.
        Some(DiskBus::Ide) => ("cdrom", "hdd", DiskBus::Ide),
        // The last place of the first controller, or one that makes more of them where a disk is there.
        Some(bus) if spec.disks.iter().any(|disk| disk.bus == bus && disk.target == "vdf") => ("cdrom", "sdz", bus),
        Some(bus) => ("cdrom", "sdf", bus),
    };
    Element::new("disk")
        .attr("type", "file")
        .attr("device", device)
        .child(Element::new("driver").attr("name", "qemu").attr("type", "raw"))
        .child(Element::new("source").attr("file", path.to_string_lossy()))
        .child(Element::new("target").attr("dev", target).attr("bus", bus.as_str()))
        .child(Element::new("readonly"))
        .child(Element::new("serial").text("virga-seed"))
}

fn needs_usb(spec: &DomainSpec) -> bool {
    let inputs = spec.vnc_socket.is_some() && spec.options.tablet == InputBus::Usb;
    let disks = spec.disks.iter().any(|disk| disk.bus == DiskBus::Usb);
    inputs || disks || spec.options.keyboard == Some(InputBus::Usb) || spec.options.cdrom == Some(DiskBus::Usb)
}

/// The USB controller, or that there is none, and the controller of SCSI.
pub fn usb(spec: &DomainSpec) -> Vec<Element> {
    let model = match spec.options.usb {
        Some(UsbController::Nec) => "nec-xhci",
        Some(UsbController::Qemu) => "qemu-xhci",
        None if needs_usb(spec) => "qemu-xhci",
        None => "none",
    };
    let usb = Element::new("controller").attr("type", "usb").attr("model", model);
    let scsi = Element::new("controller")
        .attr("type", "scsi")
        .attr("index", "0")
        .attr("model", "virtio-scsi");
    [Some(usb), has_scsi(spec).then_some(scsi)]
        .into_iter()
        .flatten()
        .collect()
}

fn has_scsi(spec: &DomainSpec) -> bool {
    spec.disks.iter().any(|disk| disk.bus == DiskBus::Scsi) || spec.options.cdrom == Some(DiskBus::Scsi)
}

/// How many PCI Express ports these devices take beside those of disks on virtio, and of interfaces.
pub fn ports(spec: &DomainSpec) -> usize {
    let options = &spec.options;
    usize::from(spec.seed.is_some() && options.cdrom.is_none())
        + usize::from(has_scsi(spec))
        + usize::from(options.usb.is_some() || needs_usb(spec))
        + usize::from(spec.vnc_socket.is_some() && options.tablet == InputBus::Virtio)
        + usize::from(options.keyboard == Some(InputBus::Virtio))
        // It is of plain PCI, and sits behind a bridge.
        + usize::from(options.watchdog.is_some())
}

/// The serial ports: the first is logged, and is the console.
pub fn serials(spec: &DomainSpec, log: Option<Element>) -> Vec<Element> {
    let port = |number: u32| Element::new("target").attr("port", number.to_string());
    let serial = || Element::new("serial").attr("type", "pty");
    let mut elements = vec![serial().child_if(log).child(port(0))];
    elements.extend((1..spec.options.serial_ports).map(|number| serial().child(port(number))));
    let target = Element::new("target").attr("type", "serial").attr("port", "0");
    elements.push(Element::new("console").attr("type", "pty").child(target));
    elements
}

/// Tablet and keyboard. VNC's pointer is absolute; without a tablet the guest's cursor drifts away from it.
pub fn inputs(spec: &DomainSpec) -> Vec<Element> {
    let input = |kind: &str, bus: InputBus| {
        let bus = match bus {
            InputBus::Virtio => "virtio",
            InputBus::Usb => "usb",
        };
        Element::new("input").attr("type", kind).attr("bus", bus)
    };
    let tablet = spec.vnc_socket.as_ref().map(|_| input("tablet", spec.options.tablet));
    let keyboard = spec.options.keyboard.map(|bus| input("keyboard", bus));
    tablet.into_iter().chain(keyboard).collect()
}

/// The graphics card.
pub fn video(spec: &DomainSpec) -> Element {
    let (model, has_ram) = match spec.video {
        Video::None => ("none", false),
        Video::Vga => ("vga", true),
        Video::Virtio => ("virtio", true),
        Video::Cirrus => ("cirrus", true),
        Video::Bochs => ("bochs", true),
        Video::Vmvga => ("vmvga", true),
        Video::Qxl => ("qxl", true),
    };
    let ram = spec.options.video_ram_mib.filter(|_| has_ram);
    let ram = ram.map(|mib| (u64::from(mib) * 1024).to_string());
    Element::new("video").child(Element::new("model").attr("type", model).attr_if("vram", ram))
}

/// The device of random numbers.
pub fn rng(spec: &DomainSpec) -> Option<Element> {
    let rate = spec.options.rng_rate.map(|rate| {
        Element::new("rate")
            .attr("bytes", rate.bytes.to_string())
            .attr("period", rate.period_ms.to_string())
    });
    spec.rng.then(|| {
        Element::new("rng")
            .attr("model", "virtio")
            .child_if(rate)
            .child(Element::new("backend").attr("model", "random").text("/dev/urandom"))
    })
}

/// The watchdog.
pub fn watchdog(spec: &DomainSpec) -> Option<Element> {
    let action = match spec.options.watchdog? {
        WatchdogAction::None => "none",
        WatchdogAction::Pause => "pause",
        WatchdogAction::Poweroff => "poweroff",
        WatchdogAction::Reset => "reset",
    };
    let watchdog = Element::new("watchdog").attr("model", "i6300esb");
    Some(watchdog.attr("action", action))
}

/// The TPM.
pub fn tpm(spec: &DomainSpec) -> Option<Element> {
    let Tpm { version_2, crb } = spec.options.tpm?;
    let backend = Element::new("backend")
        .attr("type", "emulator")
        .attr("version", if version_2 { "2.0" } else { "1.2" });
    let tpm = Element::new("tpm").attr("model", if crb { "tpm-crb" } else { "tpm-tis" });
    Some(tpm.child(backend))
}

/// The guest's IOMMU.
pub fn iommu(spec: &DomainSpec) -> Option<Element> {
    let driver = || {
        Element::new("driver")
            .attr("intremap", "on")
            .attr("caching_mode", "on")
            .attr("iotlb", "on")
    };
    Some(match spec.options.iommu? {
        Iommu::Intel => Element::new("iommu").attr("model", "intel").child(driver()),
        Iommu::Virtio => Element::new("iommu").attr("model", "virtio"),
    })
}
