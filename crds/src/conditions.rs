//! Conditions and their reasons: one list for all kinds, so that a reason means the same everywhere.

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The three values of a condition's status (Kubernetes API conventions, "Typical status properties").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// It doesn't.
    False,
    /// Nobody can tell at the moment.
    Unknown,
}

impl ConditionStatus {
    /// As written in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Condition types. `Ready` is the one for people and `kubectl wait`; `Reconciling` and `Stalled` follow kstatus: they
/// are present only while true.
pub mod types {
    /// What spec asks for is so.
    pub const READY: &str = "Ready";
    /// kstatus: work is under way.
    pub const RECONCILING: &str = "Reconciling";
    /// kstatus: no progress without a change by the user.
    pub const STALLED: &str = "Stalled";
    /// An Instance is bound to a node.
    pub const SCHEDULED: &str = "Scheduled";
    /// An Instance's ports are plugged.
    pub const NETWORK_READY: &str = "NetworkReady";
    /// An Instance's disks exist.
    pub const STORAGE_READY: &str = "StorageReady";
    /// An Instance's domain was changed by hand, or waits for its next start to be as specified; present only while true.
    pub const DRIFTED: &str = "Drifted";
    /// libvirt says that the domain runs.
    pub const RUNNING: &str = "Running";
    /// A Hypervisor's agent reaches libvirt.
    pub const LIBVIRT_CONNECTED: &str = "LibvirtConnected";
    /// No Instance is left on a host in maintenance; present only while it is.
    pub const DRAINED: &str = "Drained";
    /// Other namespaces may use a Network, or do; present only while it is so.
    pub const SHARED: &str = "Shared";
    /// A Hypervisor's data directory is nearly full.
    pub const DISK_PRESSURE: &str = "DiskPressure";
    /// A host has the CPUs, pages and devices that its Hypervisor's spec names.
    pub const TOPOLOGY_VALID: &str = "TopologyValid";
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident)*) => {
        /// Why a condition is as it is, and the reason of the event that tells of the change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)* }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As written in the API.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What it means, and what to do: the sentence in docs/conditions.md.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)* }
            }
        }
    };
}

reasons! {
    /// All is as spec asks.
    AsSpecified
    /// The object is being built.
    Building
    /// The object is being deleted.
    Deleting
    /// Deletion waits until the objects that the message names no longer use this one.
    InUse
    /// The spec breaks a rule; the message names the field and the cure.
    Invalid
    /// The Instance is bound to a node.
    Bound
    /// No host passes every filter; the message counts the hosts per filter. Free a host, add one, or ask for less.
    NoValidHost
    /// The host that was chosen could not take the Instance; another one is looked for.
    HostRejected
    /// The Instance waits for a leading controller to place it.
    WaitingForLeader
    /// The Flavor that spec.flavor names doesn't exist. Create it, or name another.
    FlavorNotFound
    /// The Image that is named doesn't exist, or its project doesn't share it.
    ImageNotFound
    /// The Image exists but is not Ready yet.
    ImageNotReady
    /// The Image can't be used with this Flavor: it is larger than the Flavor's disk, or needs more memory.
    ImageDoesNotFit
    /// The Instance that a hint or a Migration names doesn't exist. Create it, or create this one anew with another.
    InstanceNotFound
    /// The Hypervisor that is named doesn't exist. Add the host, or name another.
    HypervisorNotFound
    /// A Hypervisor of the aggregate is in another availability zone already, which holds. Take it out of one of them.
    ZoneConflict
    /// The Network that is named doesn't exist. Create it, or name another.
    NetworkNotFound
    /// The Volume that is named doesn't exist. Create it, or name another.
    VolumeNotFound
    /// The ServerGroup that is named doesn't exist. Create it, or name another.
    ServerGroupNotFound
    /// A SecurityGroup that is named doesn't exist. Create it, or name another; until then nothing passes by it.
    SecurityGroupNotFound
    /// An AddressGroup that a rule names doesn't exist. Create it, or name another; until then the rule lets nothing pass.
    AddressGroupNotFound
    /// Instances of other namespaces may be plugged into the Network; the message counts those that are.
    Shared
    /// Instances of namespaces that the Network isn't shared with any more are plugged in still, and keep what they have.
    SharingWithdrawn
    /// Security groups need OVN; libvirt's networks enforce none.
    NotEnforced
    /// The Secret that spec.userData names doesn't exist or lacks the key.
    UserDataNotFound
    /// The node is fetching the image; the message says how far it is.
    ImagePulling
    /// The image's bytes can't be used; the message says why.
    ImageInvalid
    /// The image's bytes could not be fetched; it is tried again.
    ImageUnreachable
    /// No node reports as able to import the image.
    NoImporter
    /// The disks exist.
    DisksCreated
    /// The host's storage has no room.
    PoolFull
    /// The Volume is attached to another Instance. Detach it there first.
    VolumeAttachedElsewhere
    /// The Volume is created on the host of the first Instance that names it.
    WaitingForConsumer
    /// The Volume exists on its node and nothing uses it.
    Available
    /// An Instance uses the Volume.
    Attached
    /// The ports are plugged.
    PortsPlugged
    /// The guest was asked to let go of a device and still has it; it is asked again. The message says which.
    Detaching
    /// What the message names takes effect with the guest's next start: stop and start it, or ask for a reboot.
    RestartPending
    /// Somebody changed the domain on its host by hand; the message says what.
    ChangedByHand
    /// No free address is left in the subnet that the message names.
    AddressExhausted
    /// The address that the Instance or the Port asks for belongs to another Port.
    AddressInUse
    /// The address that the Instance or the Port asks for is outside the subnet, its gateway, or reserved.
    AddressInvalid
    /// The network can't be used on this node; the message says why.
    NetworkNotReady
    /// The Port is plugged in and carries packets.
    PortUp
    /// The Port is known to OVN and no host has plugged it in: its Instance is off, or being started.
    PortDown
    /// The Port keeps its addresses for who the message names: a Router, a FloatingIP, a LoadBalancer, or the Instance that
    /// names it; no host plugs it in, or libvirt's networks do and say nothing of it.
    AddressHeld
    /// Another Instance has the Port that an interface names; the message names both. It is let go when that one is deleted, or
    /// its interface taken out.
    PortInUse
    /// OVN's north-bound database can't be reached, or takes no writes; what it holds already goes on to work.
    NorthboundUnavailable
    /// Something in OVN's north-bound database that isn't Virga's is in the way; the message names the row.
    NorthboundConflict
    /// What carries the networks can't do it; the message says what can.
    NotSupported
    /// The Router has no address in its external Network yet, or the Port that an interface names has none.
    WaitingForAddress
    /// No host is known that the external Network's physical network reaches, so no guest gets out; the message says which.
    NoGatewayHost
    /// Which hosts can be gateways is not known: OVN's south-bound database has not been read, or is not configured.
    GatewayHostsUnknown
    /// The Port that a FloatingIP leads to, or that an interface names, doesn't exist. Its Instance gets it when it is placed;
    /// or create it, or name another.
    PortNotFound
    /// No Router joins the guest's Network with the FloatingIP's; the message names both. Give one Router both.
    NotRouted
    /// No Instance that runs is chosen by the LoadBalancer's selector, and no address is named; nobody answers.
    NoMembers
    /// No member of the LoadBalancer answers when it is asked; the message names them.
    MembersOffline
    /// Some members of the LoadBalancer don't answer when they are asked, and are left out; the message names them.
    MembersDegraded
    /// The LoadBalancer that a FloatingIP leads to doesn't exist. Create it, or name another.
    LoadBalancerNotFound
    /// Another Network has the VLAN, or the physical network untagged, already. Take another tag.
    SegmentTaken
    /// The domain runs.
    Started
    /// The domain is being started.
    Starting
    /// The domain is off, as asked or by the guest's own doing; the message says which.
    Stopped
    /// The domain is paused.
    Paused
    /// The guest's memory is saved on the host's disk, and its process is gone.
    Suspended
    /// The guest can't go on from its saved memory; the message says why. To start it afresh, set powerState to Stopped,
    /// then to Running.
    SavedMemoryUnusable
    /// The Instance is on its way to another host; the message says which one and how far it is.
    Migrating
    /// Another Migration of the Instance is under way; the message names it. Wait for its end, or delete it.
    MigrationUnderWay
    /// The Instance has moved.
    Migrated
    /// The Instance did not move, and is on its host as before; the message says why. Create another Migration to try
    /// again.
    MigrationFailed
    /// What is asked for can't be done in the state that the Instance is in; the message says in which it can.
    StateForbids
    /// The size that spec.flavor asks for can't be had; the message says why, and what can be done.
    ResizeRefused
    /// What the spec asked for was done. Only of events: status.actions has who asked, and when.
    ActionSucceeded
    /// What the spec asked for can't go on without help; the message says why. Only of events.
    ActionFailed
    /// No agent in the guest answers, and what is asked for needs one. Install and start qemu-guest-agent there.
    GuestAgentMissing
    /// The Secret that spec.adminPassword names doesn't exist, lacks the key, or has no password under it.
    PasswordNotFound
    /// The Instance is off, and its root disk is being copied into the Image that the message names.
    Shelving
    /// The Instance is shelved, and on no host. To have it back, set powerState to Running or Stopped.
    Offloaded
    /// The Instance is off, and is deleted when its window is over. To restore it, take spec.softDelete out.
    SoftDeleted
    /// The window of a soft-deleted Instance is over, and it was deleted. Only of events.
    Reclaimed
    /// The guest crashed; QEMU ended without being asked to.
    GuestCrashed
    /// The host has no space left for a disk of the Instance, and its guest is halted until there is; the message says which.
    DiskFull
    /// A disk of the Instance can't be read or written on its host, and its guest is halted until it can; the message says
    /// which.
    DiskFailed
    /// libvirt refused or failed; the message says what and it is tried again.
    HypervisorError
    /// The agent can't reach libvirt on its host.
    LibvirtUnavailable
    /// The agent reaches libvirt.
    LibvirtAvailable
    /// The node's agent has not been heard of for too long.
    NodeLost
    /// The agent renews its Lease.
    HeartbeatSeen
    /// An operator keeps new Instances away from the host.
    Cordoned
    /// No Instance is left on the host, which is in maintenance.
    Drained
    /// The Instances on a host in maintenance are moved to others; the message says how many are left, and which ones wait.
    Draining
    /// What is left on a host in maintenance can't be moved; the message says why.
    DrainBlocked
    /// There is room on the host's disk.
    EnoughSpace
    /// The host's disk is nearly full.
    LowSpace
    /// The host lacks CPUs, pages or devices that its spec names, or can't give them to guests; the message names the
    /// field and the cure.
    HardwareMissing
    /// Another Project owns the namespace, or it exists without being marked for this Project.
    NamespaceConflict
    /// The only copy of an image that was made from an Instance is on a host that is not Ready; the message names it.
    OnlyCopyAway
    /// The image is being imported; the message says how far it is.
    Importing
    /// The image is ready to boot from.
    Imported
    /// The Volume was asked to be smaller, or can't grow now.
    ResizeFailed
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
