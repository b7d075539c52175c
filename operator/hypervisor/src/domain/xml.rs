//! libvirt's XML for a [`DomainSpec`] (<https://libvirt.org/formatdomain.html>).

use std::path::Path;

use super::affinity::{self, Affinity};
use super::devices::Device;
use super::options::{self, DiskBus, InterfaceModel, InterfaceOptions};
use super::spec::{
    Cache, CpuMode, Discard, DiskFormat, DiskLayer, DiskSpec, DomainSpec, DomainType, Firmware, InterfaceSource,
    InterfaceSpec, LifecycleAction,
};
use crate::cpu_list;
use crate::owner::DOMAIN_NAMESPACE;
use crate::xml::Element;

/// The domain XML. Everything that the specification says is escaped. Valid for libvirt when
/// [`DomainSpec::validate`] found nothing.
pub fn to_xml(spec: &DomainSpec) -> String {
    let vcpus = spec.topology.vcpus().to_string();
    Element::new("domain")
        .attr("type", spec.domain_type.as_str())
        .child(Element::new("name").text(&spec.name))
        .child(Element::new("uuid").text(spec.uuid.to_string()))
        .child_if(spec.title.as_ref().map(|title| Element::new("title").text(title)))
        .child(Element::new("metadata").child(spec.owner.element("instance", DOMAIN_NAMESPACE)))
        .child(
            Element::new("memory")
                .attr("unit", "KiB")
                .text((spec.memory_bytes / 1024).to_string()),
        )
        .child_if(options::memory_backing(spec, affinity::memory_backing(&spec.affinity)))
        .child(
            Element::new("vcpu")
                .attr("placement", "static")
                .attr_if("cpuset", shared_cpus(&spec.affinity))
                .text(vcpus),
        )
        .child_if(options::cpu_tune(spec, affinity::cpu_tune(&spec.affinity)))
        .child_if(affinity::numa_tune(&spec.affinity))
        .child_if(x86(spec).then(|| sysinfo(spec)))
        .child(os(spec))
        .child(features(spec))
        .child(cpu(spec))
        .child(options::clock(spec, x86(spec)))
        .child(Element::new("on_poweroff").text(action(spec.on_poweroff)))
        .child(Element::new("on_reboot").text(action(spec.on_reboot)))
        .child(Element::new("on_crash").text(action(spec.on_crash)))
        .child_if(x86(spec).then(power_management))
        .child(devices(spec))
        .write()
}

/// libvirt runs QEMU's own threads there too when nothing else is said of them.
fn shared_cpus(affinity: &Affinity) -> Option<String> {
    match affinity {
        Affinity::Cpus(cpus) => Some(cpu_list::write(cpus)),
        Affinity::Any | Affinity::Cells { .. } => None,
    }
}

fn x86(spec: &DomainSpec) -> bool {
    matches!(spec.architecture.as_str(), "x86_64" | "i686")
}

/// PCIe machines can only be plugged into where a root port waits; i440fx (`pc`) has plain slots.
fn has_root_ports(spec: &DomainSpec) -> bool {
    spec.machine.contains("q35") || spec.machine.starts_with("virt")
}

/// What `dmidecode` shows. The UUID must be the domain's own, or libvirt refuses it.
fn sysinfo(spec: &DomainSpec) -> Element {
    let entry = |name: &str, value: &str| Element::new("entry").attr("name", name).text(value);
    let uuid = spec.uuid.to_string();
    Element::new("sysinfo")
        .attr("type", "smbios")
        .child(Element::new("system").children([
            entry("manufacturer", "Virga"),
            entry("product", "Virga Instance"),
            entry("serial", &uuid),
            entry("uuid", &uuid),
            entry("family", "Virtual Machine"),
        ]))
}

fn os(spec: &DomainSpec) -> Element {
    let feature = |name: &str, on: bool| {
        Element::new("feature")
            .attr("enabled", if on { "yes" } else { "no" })
            .attr("name", name)
    };
    let (firmware, details) = match spec.firmware {
        Firmware::Bios => (None, None),
        Firmware::Uefi { secure_boot } => (
            Some("efi"),
            Some(
                Element::new("firmware")
                    .child(feature("enrolled-keys", secure_boot))
                    .child(feature("secure-boot", secure_boot)),
            ),
        ),
    };
    Element::new("os")
        .attr_if("firmware", firmware)
        .child(
            Element::new("type")
                .attr("arch", &spec.architecture)
                .attr("machine", &spec.machine)
                .text("hvm"),
        )
        .child_if(details)
        .children(options::os(spec))
        .child_if(x86(spec).then(|| Element::new("smbios").attr("mode", "sysinfo")))
}

fn features(spec: &DomainSpec) -> Element {
    let tcg_cache = spec.tcg_cache_mib.filter(|_| spec.domain_type == DomainType::Qemu);
    let secure = matches!(spec.firmware, Firmware::Uefi { secure_boot: true });
    Element::new("features")
        .child(Element::new("acpi"))
        .child_if(x86(spec).then(|| Element::new("apic")))
        .child_if(x86(spec).then(|| Element::new("vmport").attr("state", "off")))
        .child_if(secure.then(|| Element::new("smm").attr("state", "on")))
        .children(options::features(spec))
        .child_if(
            tcg_cache.map(|mib| {
                Element::new("tcg").child(Element::new("tb-cache").attr("unit", "MiB").text(mib.to_string()))
            }),
        )
}

fn cpu(spec: &DomainSpec) -> Element {
    let topology = Element::new("topology")
        .attr("sockets", spec.topology.sockets.to_string())
        .attr("cores", spec.topology.cores.to_string())
        .attr("threads", spec.topology.threads.to_string());
    let cpu = match &spec.cpu {
        CpuMode::HostModel => Element::new("cpu").attr("mode", "host-model").attr("check", "partial"),
        CpuMode::HostPassthrough => Element::new("cpu")
            .attr("mode", "host-passthrough")
            .attr("check", "none"),
        CpuMode::Maximum => Element::new("cpu").attr("mode", "maximum").attr("check", "none"),
        CpuMode::Named(model) => Element::new("cpu")
            .attr("mode", "custom")
            .attr("match", "exact")
            .attr("check", "none")
            .child(Element::new("model").attr("fallback", "forbid").text(model)),
    };
    cpu.child(topology).child_if(affinity::guest_numa(&spec.affinity))
}

/// A guest that sends itself to sleep could not be told from a hung one.
fn power_management() -> Element {
    Element::new("pm")
        .child(Element::new("suspend-to-mem").attr("enabled", "no"))
        .child(Element::new("suspend-to-disk").attr("enabled", "no"))
}

fn action(action: LifecycleAction) -> &'static str {
    match action {
        LifecycleAction::Destroy => "destroy",
        LifecycleAction::Restart => "restart",
        LifecycleAction::Preserve => "preserve",
    }
}

fn devices(spec: &DomainSpec) -> Element {
    Element::new("devices")
        .children(spec.disks.iter().map(disk))
        .child_if(spec.seed.as_deref().map(|path| options::seed(spec, path)))
        .children(controllers(spec))
        .children(spec.interfaces.iter().map(interface))
        .children(affinity::devices(&spec.pci_devices))
        .children(options::serials(spec, console_log(spec)))
        .child_if(spec.guest_agent.then(|| {
            Element::new("channel").attr("type", "unix").child(
                Element::new("target")
                    .attr("type", "virtio")
                    .attr("name", "org.qemu.guest_agent.0"),
            )
        }))
        .children(graphics(spec))
        .child(balloon(spec))
        .child_if(options::rng(spec))
        .child_if(options::watchdog(spec))
        .child_if(options::tpm(spec))
        .child_if(options::iommu(spec))
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn file_source(path: &Path) -> Element {
    Element::new("source").attr("file", path_text(path))
}

/// The XML of one device that is to be plugged in.
pub(crate) fn device_to_xml(device: &Device) -> String {
    match device {
        Device::Disk(spec) => disk(spec).write(),
        Device::Interface(spec) => interface(spec).write(),
    }
}

fn disk(disk: &DiskSpec) -> Element {
    let cache = match disk.cache {
        Cache::None => "none",
        Cache::Writeback => "writeback",
        Cache::Writethrough => "writethrough",
        Cache::DirectSync => "directsync",
        Cache::Unsafe => "unsafe",
    };
    let discard = match disk.discard {
        Discard::Unmap => "unmap",
        Discard::Ignore => "ignore",
    };
    Element::new("disk")
        .attr("type", "file")
        .attr("device", "disk")
        .child(
            Element::new("driver")
                .attr("name", "qemu")
                .attr("type", disk.format.as_str())
                .attr("cache", cache)
                // The guest is halted until the host's storage works again, whatever failed: its own file systems would
                // be read-only, or damaged, until somebody repairs them.
                .attr("error_policy", "stop")
                .attr("discard", discard)
                .attr_if(
                    "packed",
                    (disk.packed_ring && disk.bus == DiskBus::Virtio).then_some("on"),
                ),
        )
        .child(file_source(&disk.path))
        .child_if((disk.format == DiskFormat::Qcow2).then(|| backing_store(&disk.backing)))
        .child(
            Element::new("target")
                .attr("dev", &disk.target)
                .attr("bus", disk.bus.as_str()),
        )
        .child_if(options::io_tune(&disk.io_tune))
        .child_if(disk.read_only.then(|| Element::new("readonly")))
        .child_if(disk.serial.as_ref().map(|serial| Element::new("serial").text(serial)))
        .child_if(
            disk.boot_order
                .map(|order| Element::new("boot").attr("order", order.to_string())),
        )
}

/// The chain below a disk. It always ends with an empty `<backingStore/>`, which tells libvirt not to look into the
/// image for more.
fn backing_store(layers: &[DiskLayer]) -> Element {
    let Some((layer, below)) = layers.split_first() else {
        return Element::new("backingStore");
    };
    Element::new("backingStore")
        .attr("type", "file")
        .child(Element::new("format").attr("type", layer.format.as_str()))
        .child(file_source(&layer.path))
        .child(backing_store(below))
}

fn controllers(spec: &DomainSpec) -> Vec<Element> {
    let mut controllers = options::usb(spec);
    if has_root_ports(spec) {
        let on_virtio = spec.disks.iter().filter(|disk| disk.bus == DiskBus::Virtio);
        let devices = on_virtio.count()
            + options::ports(spec)
            + spec.interfaces.len()
            + spec.pci_devices.len()
            + usize::from(spec.guest_agent)
            + usize::from(spec.rng)
            // The balloon; the graphics card sits on the root bus.
            + 1;
        let free = usize::try_from(spec.hotplug_ports).unwrap_or(usize::MAX);
        controllers.push(
            Element::new("controller")
                .attr("type", "pci")
                .attr("model", "pcie-root"),
        );
        let port = Element::new("controller")
            .attr("type", "pci")
            .attr("model", "pcie-root-port");
        controllers.extend(std::iter::repeat_n(port, devices.saturating_add(free)));
    }
    controllers
}

fn interface(interface: &InterfaceSpec) -> Element {
    let (kind, source, virtual_port, offloads) = match &interface.source {
        InterfaceSource::Network(name) => ("network", Element::new("source").attr("network", name), None, true),
        InterfaceSource::OpenVSwitch {
            bridge,
            interface_id,
            offloads,
        } => {
            let parameters = Element::new("parameters").attr("interfaceid", interface_id.to_string());
            let virtual_port = Element::new("virtualport")
                .attr("type", "openvswitch")
                .child(parameters);
            let source = Element::new("source").attr("bridge", bridge);
            ("bridge", source, Some(virtual_port), *offloads)
        }
    };
    Element::new("interface")
        .attr("type", kind)
        .child(Element::new("mac").attr("address", interface.mac.to_string()))
        .child(source)
        .child_if(options::bandwidth(&interface.options))
        .child_if(virtual_port)
        .child(Element::new("model").attr("type", model(interface.options.model)))
        .child_if(driver(&interface.options, offloads))
        .child_if(
            interface
                .mtu
                .map(|mtu| Element::new("mtu").attr("size", mtu.to_string())),
        )
        .child_if(
            interface
                .alias
                .as_ref()
                .map(|alias| Element::new("alias").attr("name", alias)),
        )
}

fn model(model: InterfaceModel) -> &'static str {
    match model {
        InterfaceModel::Virtio => "virtio",
        InterfaceModel::E1000 => "e1000",
        InterfaceModel::E1000e => "e1000e",
        InterfaceModel::Igb => "igb",
        InterfaceModel::Rtl8139 => "rtl8139",
        InterfaceModel::Vmxnet3 => "vmxnet3",
    }
}

/// What virtio-net is told besides its name. Without offloads neither side leaves the other to complete its packets.
fn driver(options: &InterfaceOptions, offloads: bool) -> Option<Element> {
    let virtio = options.model == InterfaceModel::Virtio;
    let queues = options.queues.filter(|queues| virtio && *queues > 1);
    let packed = options.packed_ring && virtio;
    let complete = virtio && !offloads;
    let off = |element, names: &[&str]| names.iter().fold(element, |e: Element, name| e.attr(name, "off"));
    let host = || {
        off(
            Element::new("host"),
            &["csum", "gso", "tso4", "tso6", "ecn", "ufo", "mrg_rxbuf"],
        )
    };
    let guest = || off(Element::new("guest"), &["csum", "tso4", "tso6", "ecn", "ufo"]);
    let driver = || {
        Element::new("driver")
            .attr_if("name", complete.then_some("qemu"))
            .attr_if("queues", queues.map(|queues| queues.to_string()))
            .attr_if("packed", packed.then_some("on"))
            .child_if(complete.then(host))
            .child_if(complete.then(guest))
    };
    (packed || complete || queues.is_some()).then(driver)
}

/// Append: a restart must not lose the story of the crash before it. virtlogd bounds the size by rotation.
fn console_log(spec: &DomainSpec) -> Option<Element> {
    let path = spec.console_log.as_deref()?;
    Some(Element::new("log").attr("file", path_text(path)).attr("append", "on"))
}

fn graphics(spec: &DomainSpec) -> Vec<Element> {
    let mut elements = Vec::new();
    if let Some(socket) = &spec.vnc_socket {
        elements.push(
            Element::new("graphics").attr("type", "vnc").child(
                Element::new("listen")
                    .attr("type", "socket")
                    .attr("socket", path_text(socket)),
            ),
        );
    }
    elements.extend(options::inputs(spec));
    elements.push(options::video(spec));
    elements
}

fn balloon(spec: &DomainSpec) -> Element {
    let period = spec.balloon_stats_period_s;
    Element::new("memballoon")
        .attr("model", "virtio")
        .child_if((period > 0).then(|| Element::new("stats").attr("period", period.to_string())))
}
