//! How does the agent behave?

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
    path::PathBuf,
};

use virga_core::network::Backend;
use virga_crds::Bytes;
use virga_hypervisor::DomainType;
use virga_scheduler::Ratios;

use crate::{
    flags::{Args, DomainTypeFlag, NetworkBackendFlag},
    host::{Checkpoint, DomainChoice},
    usage::Periods,
};

/// How the agent behaves.
#[derive(Clone)]
pub struct Options {
    /// This node.
    pub node: String,
    /// Where images, disks and volumes are.
    pub data_dir: PathBuf,
    /// How guests are run.
    pub domain_type: DomainChoice,
    /// The namespace of Virga's own objects.
    pub namespace: String,
    /// Where the controller serves user data.
    pub controller_url: Option<String>,
    /// The address behind it, where its name is not known.
    pub controller_ip: Option<IpAddr>,
    /// The service account's token.
    pub token_file: PathBuf,
    /// The host's address.
    pub host_ip: Option<String>,
    /// How much of the disk the image cache may take.
    pub image_cache: Bytes,
    /// How much of the disk must stay free.
    pub min_free: Bytes,
    /// Whether images may be fetched from the host itself.
    pub allow_local_image_urls: bool,
    /// How many times over the host is promised, where its Hypervisor doesn't say.
    pub ratios: Ratios,
    /// Whether the host's CPUs are measured.
    pub monitor_cpu: bool,
    /// How often guests are measured and asked.
    pub usage: Periods,
    /// What carries the networks.
    pub network: Backend,
    /// With OVN: whether guests may leave checksums and segments to the host.
    pub offloads: bool,
    /// The qemu-img program.
    pub qemu_img: PathBuf,
    /// Where other agents reach this one.
    pub transfer_address: SocketAddr,
    /// How many bytes a second go from and to other hosts, together.
    pub transfer_bandwidth: Option<NonZeroU64>,
    /// For tests of crashes.
    pub checkpoint: Option<Checkpoint>,
}

impl From<Args> for Options {
    fn from(args: Args) -> Self {
        let Args {
            // Used by main.
            common: _,
            libvirt_uri: _,
            node_name,
            data_dir,
            domain_type,
            namespace,
            controller_url,
            controller_ip,
            token_file,
            host_ip,
            image_cache_gib,
            min_free_gib,
            allow_local_image_urls,
            cpu_allocation_ratio,
            ram_allocation_ratio,
            disk_allocation_ratio,
            monitor_cpu,
            network_backend,
            underlay_mtu,
            ovn_without_offloads,
            qemu_img,
            transfer_address,
            transfer_bandwidth_mib,
        } = args;
        Self {
            node: node_name,
            data_dir,
            domain_type: match domain_type {
                DomainTypeFlag::Auto => DomainChoice::Auto,
                DomainTypeFlag::Kvm => DomainChoice::Always(DomainType::Kvm),
                DomainTypeFlag::Qemu => DomainChoice::Always(DomainType::Qemu),
            },
            namespace,
            controller_url,
            controller_ip,
            token_file,
            host_ip,
            image_cache: Bytes::gib(image_cache_gib),
            min_free: Bytes::gib(min_free_gib),
            allow_local_image_urls,
            ratios: Ratios {
                vcpus: cpu_allocation_ratio,
                memory: ram_allocation_ratio,
                disk: disk_allocation_ratio,
            },
            monitor_cpu,
            usage: Periods::default(),
            network: match network_backend {
                NetworkBackendFlag::Libvirt => Backend::Libvirt,
                NetworkBackendFlag::Ovn => Backend::Ovn { underlay_mtu },
            },
            offloads: !ovn_without_offloads,
            qemu_img,
            transfer_address,
            transfer_bandwidth: NonZeroU64::new(transfer_bandwidth_mib.saturating_mul(1 << 20)),
            checkpoint: None,
        }
    }
}
