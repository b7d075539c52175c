//! Which flags does the agent take?

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::Parser;
use virga_runtime::flags::CommonArgs;
use virga_scheduler::Ratio;

/// The agent on each hypervisor host: turns the Instances bound to its node into libvirt domains.
#[derive(Debug, Clone, Parser)]
#[command(name = "virga-agent", version)]
pub struct Args {
    /// What every process takes.
    #[command(flatten)]
    pub common: CommonArgs,

    /// The Node that this agent runs on
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,

    /// Where images, disks and volumes are; the same path inside the pod and on the host
    #[arg(long, env = "VIRGA_DATA_DIR", default_value = "/var/lib/virga")]
    pub data_dir: PathBuf,

    /// The libvirt connection
    #[arg(
        long,
        env = "VIRGA_LIBVIRT_URI",
        default_value = "qemu:///system?socket=/run/libvirt/libvirt-sock"
    )]
    pub libvirt_uri: String,

    /// How guests are run; auto takes KVM where the CPU has it, and QEMU's own translation (TCG) elsewhere
    #[arg(long, env = "VIRGA_DOMAIN_TYPE", value_enum, default_value = "auto")]
    pub domain_type: DomainTypeFlag,

    /// The namespace of Virga's own objects
    #[arg(long, env = "VIRGA_NAMESPACE", default_value = virga_crds::SYSTEM_NAMESPACE)]
    pub namespace: String,

    /// Where the controller serves user data and signs certificates, such as https://virga-controller.virga-system.svc
    #[arg(long, env = "VIRGA_CONTROLLER_URL")]
    pub controller_url: Option<String>,

    /// The address behind --controller-url, where the host's resolver doesn't know the name
    #[arg(long, env = "VIRGA_CONTROLLER_IP")]
    pub controller_ip: Option<IpAddr>,

    /// The service account's token, that the controller is shown
    #[arg(
        long,
        env = "VIRGA_TOKEN_FILE",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )]
    pub token_file: PathBuf,

    /// The host's address, for status.addresses; the Node's own when absent
    #[arg(long, env = "HOST_IP")]
    pub host_ip: Option<String>,

    /// How much of the disk the image cache may take, in GiB
    #[arg(long, env = "VIRGA_IMAGE_CACHE_GIB", default_value_t = 50)]
    pub image_cache_gib: u64,

    /// How much of the disk must stay free, in GiB: below it no image is fetched, and DiskPressure is reported
    #[arg(long, env = "VIRGA_MIN_FREE_GIB", default_value_t = 2)]
    pub min_free_gib: u64,

    /// Whether images may be fetched from the host itself and its link (127.0.0.1, 169.254.0.0/16). Only for machines
    /// without tenants
    #[arg(long, env = "VIRGA_ALLOW_LOCAL_IMAGE_URLS")]
    pub allow_local_image_urls: bool,

    /// How many times over a host's processors are promised, where its Hypervisor doesn't say; as the controller's flag
    #[arg(long, env = "VIRGA_CPU_ALLOCATION_RATIO", default_value_t = Ratio::FOUR)]
    pub cpu_allocation_ratio: Ratio,

    /// How many times over a host's memory is promised, where its Hypervisor doesn't say; as the controller's flag
    #[arg(long, env = "VIRGA_RAM_ALLOCATION_RATIO", default_value_t = Ratio::ONE)]
    pub ram_allocation_ratio: Ratio,

    /// How many times over a host's disk is promised, where its Hypervisor doesn't say; as the controller's flag
    #[arg(long, env = "VIRGA_DISK_ALLOCATION_RATIO", default_value_t = Ratio::ONE)]
    pub disk_allocation_ratio: Ratio,

    /// Measure how busy the host's CPUs are, for MetricsFilter and MetricsWeigher: a write to its Hypervisor each minute
    #[arg(long, env = "VIRGA_MONITOR_CPU")]
    pub monitor_cpu: bool,

    /// What carries the networks; as the controller's flag
    #[arg(long, env = "VIRGA_NETWORK_BACKEND", value_enum, default_value = "libvirt")]
    pub network_backend: NetworkBackendFlag,

    /// The largest packet between the hosts, in bytes, for OVN's tunnels; as the controller's flag
    #[arg(long, env = "VIRGA_UNDERLAY_MTU", default_value_t = 1500, value_parser = clap::value_parser!(u16).range(1280..=9216))]
    pub underlay_mtu: u16,

    /// With OVN: take checksums and segmentation from guests, for a switch in user space (datapath_type=netdev)
    #[arg(long, env = "VIRGA_OVN_WITHOUT_OFFLOADS")]
    pub ovn_without_offloads: bool,

    /// The qemu-img program
    #[arg(long, env = "VIRGA_QEMU_IMG", default_value = "qemu-img")]
    pub qemu_img: PathBuf,

    /// Where other hosts' agents fetch images and disks from this one
    #[arg(long, env = "VIRGA_TRANSFER_ADDRESS", default_value = "[::]:9192")]
    pub transfer_address: SocketAddr,

    /// How many MiB a second go from and to other hosts, all together; 0: as many as can
    #[arg(long, env = "VIRGA_TRANSFER_BANDWIDTH_MIB", default_value_t = 0)]
    pub transfer_bandwidth_mib: u64,
}

/// What carries the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NetworkBackendFlag {
    /// libvirt's own networks, one on each host.
    Libvirt,
    /// OVN, from host to host.
    Ovn,
}

/// How guests are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DomainTypeFlag {
    /// KVM where it works, else QEMU's own translation.
    Auto,
    /// KVM.
    Kvm,
    /// QEMU's own translation (TCG).
    Qemu,
}
