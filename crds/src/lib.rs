//! The Kubernetes API of Virga: the kinds of `virga.dev/v1alpha1` and nothing else.
//!
//! One file a kind. The schemas follow the [Kubernetes API conventions]; the committed YAML under `crds/yaml` is made
//! from these types by `cargo xtask gen`, and a test fails when it is stale.
//!
//! [Kubernetes API conventions]: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md

#![allow(
    clippy::duplicated_attributes,
    reason = "it takes the columns of one kind for one attribute"
)]

mod action;
mod address_group;
mod backup;
mod bytes;
pub mod conditions;
pub mod definitions;
mod dhcp_option;
mod flavor;
mod floating_ip;
mod host_aggregate;
mod hypervisor;
mod image;
mod instance;
mod load_balancer;
mod migration;
mod network;
mod port;
mod project;
mod qos;
mod resize;
mod root_disk;
mod router;
pub mod schema;
mod security_group;
mod server_group;
mod shelve;
mod topology;
mod trunk;
mod usage;
mod vnic;
mod volume;

pub use action::{ActionName, ActionResult, Begun, InstanceAction};
pub use address_group::{AddressGroup, AddressGroupSpec, AddressGroupStatus};
pub use backup::BackupSchedule;
pub use bytes::{Bytes, ParseBytesError};
pub use conditions::{Condition, ConditionStatus};
pub use dhcp_option::{DhcpOption, DhcpOptionName};
pub use flavor::{Flavor, FlavorSpec, FlavorStatus};
pub use floating_ip::{FloatingIP, FloatingIPSpec, FloatingIPStatus, ForwardedProtocol, PortForwarding};
pub use host_aggregate::{
    HostAggregate, HostAggregateSpec, HostAggregateStatus, LabelOperator, LabelRequirement, LabelSelector,
};
pub use hypervisor::{
    AllocationRatios, CachedImage, CachedImageState, Capabilities, Cpu, HostMetric, Hypervisor, HypervisorAddress,
    HypervisorSpec, HypervisorStatus, Inventory, Reserved, Resources, Scheduling, Versions,
};
pub use image::{
    Checksum, ChecksumAlgorithm, DiskFormat, HttpSource, Image, ImageHolder, ImageNodes, ImageSource, ImageSpec,
    ImageState, ImageStatus, ImageVisibility, InstanceSource, Quiesce, SnapshotStatus,
};
pub use instance::{
    Address, AdminPassword, BuiltFlavor, CrashDump, DecidedBy, DriftPolicy, FilterRejections, ImageRef, Instance,
    InstanceScheduling, InstanceSpec, InstanceState, InstanceStatus, Interface, Lock, ObservedPower, PasswordRef,
    Placement, PowerState, Protection, Reboot, RebootStatus, RebootType, RunPolicy, SchedulerHints, SecretKeyRef,
    SoftDelete, SoftDeleteStatus, UserData, VolumeAttachment,
};
pub use load_balancer::{
    HealthCheck, Listener, LoadBalancer, LoadBalancerMembers, LoadBalancerSpec, LoadBalancerStatus, LoadBalancerVip,
    MemberState, MemberStatus,
};
pub use migration::{
    Incoming, IncomingState, Migration, MigrationPhase, MigrationSpec, MigrationStatus, MigrationType, OfferedBase,
    OfferedFile, Outgoing, OutgoingState,
};
pub use network::{
    AllocationPool, Dhcp, HostRoute, Ipv6Mode, Network, NetworkRef, NetworkScope, NetworkSpec, NetworkStatus,
    NetworkType, PortSecurity, Subnet, SubnetUsage,
};
pub use port::{Allocation, Port, PortAddress, PortHolder, PortSpec, PortStatus};
pub use project::{Project, ProjectMember, ProjectRole, ProjectSpec, ProjectStatus, SubjectKind};
pub use qos::{BandwidthLimit, Qos};
pub use resize::{ResizePolicy, ResizeStatus, ResizeVerdict};
pub use root_disk::{Rebuild, RebuildStatus, Rescue};
pub use router::{
    Distribution, ExternalGateway, JoinedNetwork, Router, RouterNetwork, RouterRoute, RouterSpec, RouterStatus, Snat,
};
pub use security_group::{
    AddressGroupRef, AddressPair, EtherType, IcmpKind, PortRange, RuleDirection, RuleMode, RuleRemote, SecurityGroup,
    SecurityGroupRule, SecurityGroupSpec, SecurityGroupStatus,
};
pub use server_group::{ServerGroup, ServerGroupPolicy, ServerGroupRules, ServerGroupSpec, ServerGroupStatus};
pub use shelve::{Shelve, ShelveStatus};
pub use topology::{
    CpuPartition, CpuPin, EmulatorCpus, EmulatorPolicy, InstanceCell, InstancePciDevice, InstanceTopology, MemoryPages,
    NumaCell, PciDevice, PciDeviceSelector, ReservedPages,
};
pub use trunk::{SubPort, Trunk, TrunkParent};
pub use usage::{GuestFilesystem, GuestInterface, GuestStatus, InstanceUsage};
pub use vnic::VnicType;
pub use volume::{
    Volume, VolumeAttachmentStatus, VolumeDeletionPolicy, VolumeSource, VolumeSpec, VolumeState, VolumeStatus,
};

/// The API group of every kind.
pub const GROUP: &str = "virga.dev";
/// The served version.
pub const VERSION: &str = "v1alpha1";
/// The namespace that Virga's own processes run in.
pub const SYSTEM_NAMESPACE: &str = "virga-system";

/// Finalizers that Virga sets. Each is removed by the one process it is named for, when nothing of the object is left.
pub mod finalizers {
    /// Held by the agent of the node that an Instance or a Volume is bound to.
    pub const AGENT: &str = "virga.dev/agent";
    /// Held by the controller while an object is in use by others.
    pub const CONTROLLER: &str = "virga.dev/controller";
}

/// Labels and annotations that Virga sets.
pub mod labels {
    /// On a namespace and what is in it: the Project it belongs to.
    pub const PROJECT: &str = "virga.dev/project";
    /// On a Port: the name of the Instance it is plugged into. On an Image that is a backup, or
    /// has the root disk of a shelved Instance: the one it was made of.
    pub const INSTANCE: &str = "virga.dev/instance";
    /// On a Port that is the address of a FloatingIP: the FloatingIP's uid.
    pub const FLOATING_IP: &str = "virga.dev/floating-ip";
    /// On a Port that is the address of a LoadBalancer, or that its members are asked from: the LoadBalancer's uid.
    pub const LOAD_BALANCER: &str = "virga.dev/load-balancer";
    /// On a Port that is an address of a Router: the Router's uid.
    pub const ROUTER: &str = "virga.dev/router";
    /// On an Image that is a backup: the uid of the Instance that it was made of.
    pub const BACKUP_OF: &str = "virga.dev/backup-of";
    /// On an Image that is a backup: when it was due, as `20261122T180000Z`.
    pub const BACKUP_AT: &str = "virga.dev/backup-at";
    /// On a Migration: the uid of the Instance that it takes from a host in maintenance.
    pub const DRAINS: &str = "virga.dev/drains";
    /// On a Migration: the uid of the Instance that it moves because its host has no room for the size that it is to get.
    pub const RESIZES: &str = "virga.dev/resizes";
    /// On an Image that has the root disk of a shelved Instance: the uid of that.
    pub const SHELVED_OF: &str = "virga.dev/shelved-of";
    /// On an Image that has the root disk of a shelved Instance: since when that was off for it, as `20261122T180000Z`.
    pub const SHELVED_AT: &str = "virga.dev/shelved-at";
    /// On a controller's Pod: `true` while it leads.
    pub const LEADER: &str = "virga.dev/leader";
    /// An annotation on an Instance that is placed: the decision, as JSON of `status.scheduling`. It comes with
    /// `spec.nodeName` in one write; the node's agent takes it over into the status.
    pub const SCHEDULING: &str = "virga.dev/scheduling";
    /// An annotation on an Instance that is to be resized: whether its host has room for the new size, as JSON of
    /// [`ResizeVerdict`](crate::ResizeVerdict). Written by the leading controller; the node's agent goes by it.
    pub const RESIZE: &str = "virga.dev/resize";
    /// An annotation on an Instance: who changed each field that is a verb last, as JSON. Written by admission, whatever a
    /// request says of it; the node's agent takes it over into `status.actions`.
    pub const REQUESTED_BY: &str = "virga.dev/requested-by";
}

/// Field managers of server-side apply. One writer a field: see docs/architecture.md, "Who writes what".
pub mod managers {
    /// Binding: `spec.nodeName` and the finalizers set with it.
    pub const SCHEDULER: &str = "virga-scheduler";
    /// The controller's statuses and the objects it owns.
    pub const CONTROLLER: &str = "virga-controller";
    /// What is left on a host in maintenance. The controller has another word on Hypervisors, when a host is lost, and may
    /// not take that back as freely.
    pub const DRAIN: &str = "virga-drain";
    /// The agent's statuses.
    pub const AGENT: &str = "virga-agent";
    /// What the agent of the host that an Instance leaves says of its Migration. The target's agent writes as
    /// [`AGENT`]: of two writers of one status, neither may take the other's fields away.
    pub const AGENT_OUTGOING: &str = "virga-agent-outgoing";
}
