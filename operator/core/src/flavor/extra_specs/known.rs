//! The keys that Nova 34 knows, and the names that its Placement knows.

/// Scopes whose keys Virga carries out.
pub(super) const SCOPES: [&str; 6] = [
    "resources",
    "trait",
    "aggregate_instance_extra_specs",
    "capabilities",
    "hw",
    "pci_passthrough",
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

/// Keys that Nova knows and that Virga does not carry out yet.
const NOT_YET: [&str; 73] = [
    "accel:device_profile",
    "hide_hypervisor_id",
    "hw:boot_menu",
    "hw:cpu_cores",
    "hw:cpu_max_cores",
    "hw:cpu_max_sockets",
    "hw:cpu_max_threads",
    "hw:cpu_realtime",
    "hw:cpu_realtime_mask",
    "hw:cpu_sockets",
    "hw:cpu_threads",
    "hw:ephemeral_encryption",
    "hw:ephemeral_encryption_format",
    "hw:hide_hypervisor_id",
    "hw:locked_memory",
    "hw:maxphysaddr_bits",
    "hw:maxphysaddr_mode",
    "hw:mem_encryption",
    "hw:mem_encryption_model",
    "hw:pmem",
    "hw:pmu",
    "hw:redirected_usb_ports",
    "hw:serial_port_count",
    "hw:sound_model",
    "hw:tpm_model",
    "hw:tpm_secret_security",
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
    "quota:cpu_limit",
    "quota:cpu_period",
    "quota:cpu_quota",
    "quota:cpu_reservation",
    "quota:cpu_shares",
    "quota:cpu_shares_level",
    "quota:cpu_shares_share",
    "quota:disk_io_limit",
    "quota:disk_io_reservation",
    "quota:disk_io_shares_level",
    "quota:disk_io_shares_share",
    "quota:disk_read_bytes_sec",
    "quota:disk_read_iops_sec",
    "quota:disk_total_bytes_sec",
    "quota:disk_total_iops_sec",
    "quota:disk_write_bytes_sec",
    "quota:disk_write_iops_sec",
    "quota:memory_limit",
    "quota:memory_reservation",
    "quota:memory_shares_level",
    "quota:memory_shares_share",
    "quota:vif_inbound_average",
    "quota:vif_inbound_burst",
    "quota:vif_inbound_peak",
    "quota:vif_limit",
    "quota:vif_outbound_average",
    "quota:vif_outbound_burst",
    "quota:vif_outbound_peak",
    "quota:vif_reservation",
    "quota:vif_shares_level",
    "quota:vif_shares_share",
    "vmware:hw_version",
    "vmware:storage_policy",
    "powervm:availability_priority",
    "powervm:processor_compatibility",
    "powervm:shared_weight",
];

/// Whether Nova knows the key and Virga does not carry it out.
pub(super) fn is_not_carried_out(key: &str) -> bool {
    NOT_YET.contains(&key)
}

/// Every key that may have been meant.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    CARRIED_OUT.into_iter().chain(NOT_YET)
}
