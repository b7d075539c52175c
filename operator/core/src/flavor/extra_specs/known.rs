//! The keys that Nova 34 knows, and the names that its Placement knows.

/// Scopes whose keys Virga carries out.
pub(super) const SCOPES: [&str; 10] = [
    "resources",
    "trait",
    "aggregate_instance_extra_specs",
    "capabilities",
    "hw",
    "hw_rng",
    "hw_video",
    "os",
    "pci_passthrough",
    "quota",
];

/// Keys that Virga carries out, as they may be meant by somebody who writes them wrong.
const CARRIED_OUT: [&str; 15] = [
    "group_policy",
    "resources:VCPU",
    "resources:PCPU",
    "resources:MEMORY_MB",
    "resources:DISK_GB",
    "hw:cpu_policy",
    "hw:cpu_thread_policy",
    "hw:cpu_dedicated_mask",
    "hw:emulator_threads_policy",
    "hw:mem_page_size",
    "hw:numa_nodes",
    "hw:numa_cpus.0",
    "hw:numa_mem.0",
    "hw:pci_numa_affinity_policy",
    "pci_passthrough:alias",
];

/// Placement's standard resource classes that no host of Virga's has an inventory of.
pub(super) const STANDARD_CLASSES: [&str; 17] = [
    "PCI_DEVICE",
    "SRIOV_NET_VF",
    "NUMA_SOCKET",
    "NUMA_CORE",
    "NUMA_THREAD",
    "NUMA_MEMORY_MB",
    "IPV4_ADDRESS",
    "VGPU",
    "VGPU_DISPLAY_HEAD",
    "PGPU",
    "FPGA",
    "MEM_ENCRYPTION_CONTEXT",
    "NET_BW_EGR_KILOBIT_PER_SEC",
    "NET_BW_IGR_KILOBIT_PER_SEC",
    "NET_PACKET_RATE_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
];

/// Keys of the guest's machine and of quotas that Virga carries out.
const OF_MACHINES: [&str; 51] = [
    "hide_hypervisor_id",
    "hw:boot_menu",
    "hw:cpu_cores",
    "hw:cpu_max_cores",
    "hw:cpu_max_sockets",
    "hw:cpu_max_threads",
    "hw:cpu_sockets",
    "hw:cpu_threads",
    "hw:hide_hypervisor_id",
    "hw:locked_memory",
    "hw:pmu",
    "hw:serial_port_count",
    "hw:tpm_model",
    "hw:tpm_version",
    "hw:usb_model",
    "hw:vif_multiqueue_enabled",
    "hw:viommu_model",
    "hw:virtio_packed_ring",
    "hw:watchdog_action",
    "hw_rng:allowed",
    "hw_rng:rate_bytes",
    "hw_rng:rate_period",
    "hw_video:ram_max_mb",
    "os:secure_boot",
    "quota:cpu_period",
    "quota:cpu_quota",
    "quota:cpu_shares",
    "quota:disk_read_bytes_sec",
    "quota:disk_read_bytes_sec_max",
    "quota:disk_read_bytes_sec_max_length",
    "quota:disk_read_iops_sec",
    "quota:disk_read_iops_sec_max",
    "quota:disk_read_iops_sec_max_length",
    "quota:disk_total_bytes_sec",
    "quota:disk_total_bytes_sec_max",
    "quota:disk_total_bytes_sec_max_length",
    "quota:disk_total_iops_sec",
    "quota:disk_total_iops_sec_max",
    "quota:disk_total_iops_sec_max_length",
    "quota:disk_write_bytes_sec",
    "quota:disk_write_bytes_sec_max",
    "quota:disk_write_bytes_sec_max_length",
    "quota:disk_write_iops_sec",
    "quota:disk_write_iops_sec_max",
    "quota:disk_write_iops_sec_max_length",
    "quota:vif_inbound_average",
    "quota:vif_inbound_burst",
    "quota:vif_inbound_peak",
    "quota:vif_outbound_average",
    "quota:vif_outbound_burst",
    "quota:vif_outbound_peak",
];

const ENCRYPTION: &str = "disks are not encrypted by the hypervisor yet";
const MEMORY_ENCRYPTION: &str = "no host tells of encrypted memory yet";
const PHYSICAL_BITS: &str = "it needs the host's very processor, which would tie the guest to this host";
const REALTIME: &str = "the host's scheduler is not to be taken over by a guest";
const SOUND: &str = "no console carries sound";
const USB_REDIRECTION: &str = "it needs SPICE, and consoles are VNC and serial";
const VMWARE: &str = "it is VMware's";
const POWER: &str = "it is PowerVM's";

/// Keys that Nova knows and that Virga does not carry out, and why.
const REFUSED: [(&str, &str); 39] = [
    (
        "accel:device_profile",
        "there are no accelerator profiles; pci_passthrough:alias gives devices",
    ),
    ("hw:cpu_realtime", REALTIME),
    ("hw:cpu_realtime_mask", REALTIME),
    ("hw:ephemeral_encryption", ENCRYPTION),
    ("hw:ephemeral_encryption_format", ENCRYPTION),
    ("hw:ephemeral_encryption_secret_uuid", ENCRYPTION),
    ("hw:maxphysaddr_bits", PHYSICAL_BITS),
    ("hw:maxphysaddr_mode", PHYSICAL_BITS),
    ("hw:mem_encryption", MEMORY_ENCRYPTION),
    ("hw:mem_encryption_model", MEMORY_ENCRYPTION),
    ("hw:pmem", "hosts have no inventory of persistent memory"),
    ("hw:redirected_usb_ports", USB_REDIRECTION),
    ("hw:sound_model", SOUND),
    ("hw:tpm_secret_security", "the TPM's state lies on its host as it is"),
    ("quota:cpu_limit", VMWARE),
    ("quota:cpu_reservation", VMWARE),
    ("quota:cpu_shares_level", VMWARE),
    ("quota:cpu_shares_share", VMWARE),
    ("quota:disk_io_limit", VMWARE),
    ("quota:disk_io_reservation", VMWARE),
    ("quota:disk_io_shares_level", VMWARE),
    ("quota:disk_io_shares_share", VMWARE),
    ("quota:memory_limit", VMWARE),
    ("quota:memory_reservation", VMWARE),
    ("quota:memory_shares_level", VMWARE),
    ("quota:memory_shares_share", VMWARE),
    ("quota:vif_limit", VMWARE),
    ("quota:vif_reservation", VMWARE),
    ("quota:vif_shares_level", VMWARE),
    ("quota:vif_shares_share", VMWARE),
    ("vmware:boot_delay", VMWARE),
    ("vmware:boot_retry", VMWARE),
    ("vmware:hw_version", VMWARE),
    ("vmware:latency_sensitivity_level", VMWARE),
    ("vmware:storage_policy", VMWARE),
    ("vmware:tools_upgrade", VMWARE),
    ("powervm:availability_priority", POWER),
    ("powervm:processor_compatibility", POWER),
    ("powervm:shared_weight", POWER),
];

const OF_FLAVORS: &str = "it costs the host, so a Flavor says it";

/// Properties that Nova knows and that Virga does not carry out, and why.
const REFUSED_PROPERTIES: [(&str, &str); 20] = [
    ("hw_cpu_realtime_mask", REALTIME),
    ("hw_emulation_architecture", "guests have their host's architecture"),
    ("hw_ephemeral_encryption", ENCRYPTION),
    ("hw_ephemeral_encryption_format", ENCRYPTION),
    ("hw_firmware_stateless", "UEFI's variables are kept with the Instance"),
    ("hw_locked_memory", OF_FLAVORS),
    ("hw_maxphysaddr_bits", PHYSICAL_BITS),
    ("hw_maxphysaddr_mode", PHYSICAL_BITS),
    ("hw_mem_encryption", MEMORY_ENCRYPTION),
    ("hw_mem_encryption_model", MEMORY_ENCRYPTION),
    ("hw_redirected_usb_ports", USB_REDIRECTION),
    ("hw_sound_model", SOUND),
    ("hw_tpm_secret_security", "the TPM's state lies on its host as it is"),
    ("hw_pmem", OF_FLAVORS),
    ("hw_rng:rate_bytes", OF_FLAVORS),
    ("hw_video:ram_max_mb", OF_FLAVORS),
    ("hw_boot_dtb", "no kernel is started but the guest's own"),
    ("os_command_line", "no kernel is started but the guest's own"),
    ("kernel_id", "no kernel is started but the guest's own"),
    ("ramdisk_id", "no kernel is started but the guest's own"),
];

/// Why a key that Nova knows is not carried out.
pub(super) fn refusal(key: &str) -> Option<&'static str> {
    find(&REFUSED, key)
}

/// Why a property that Nova knows is not carried out.
pub(crate) fn image_refusal(name: &str) -> Option<&'static str> {
    find(&REFUSED_PROPERTIES, name)
}

fn find(refused: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    refused.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

/// Every key that may have been meant.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    let refused = REFUSED.iter().map(|(key, _)| *key);
    CARRIED_OUT.into_iter().chain(OF_MACHINES).chain(refused)
}
