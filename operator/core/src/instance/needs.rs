//! What an Instance needs before its domain can be defined or started.

use virga_crds::{
    BuiltFlavor, Bytes, ConditionStatus, Instance,
    conditions::{Reason, types},
};

use super::{
    effect::Effect,
    plan::old_conditions,
    seen::{Cache, Image, Interface, InterfaceUse, Seen, VolumeUse},
    shelve,
    status::reason_of,
    trunk::tells_of_trunk,
};

/// How one condition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aspect {
    pub status: ConditionStatus,
    pub reason: Reason,
    pub message: String,
    /// Whether only the user can help.
    pub stuck: bool,
}

impl Aspect {
    pub fn holds(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            status: ConditionStatus::True,
            reason,
            message: message.into(),
            stuck: false,
        }
    }

    pub fn waits(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            status: ConditionStatus::False,
            reason,
            message: message.into(),
            stuck: false,
        }
    }

    pub fn stuck(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            stuck: true,
            ..Self::waits(reason, message)
        }
    }

    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            status: ConditionStatus::Unknown,
            ..Self::waits(reason, message)
        }
    }

    pub fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }
}

/// A need: how it stands, what brings it nearer, and whether it is met once that is done.
pub(super) struct Need {
    pub aspect: Aspect,
    pub effects: Vec<Effect>,
    pub met: bool,
}

impl Need {
    fn met(aspect: Aspect) -> Self {
        Self {
            aspect,
            effects: Vec::new(),
            met: true,
        }
    }

    pub fn unmet(aspect: Aspect) -> Self {
        Self {
            aspect,
            effects: Vec::new(),
            met: false,
        }
    }
}

/// The disks: the root disk, or the boot volume, and the volumes.
pub(super) fn storage(instance: &Instance, seen: &Seen, built: bool) -> Need {
    let root = root_disk(instance, seen, built);
    // A pull goes on while a volume is waited for, but the user hears of what the user can cure first.
    match volumes(seen) {
        Some(problem) if !root.aspect.stuck => Need {
            aspect: problem,
            effects: root.effects,
            met: false,
        },
        _ => root,
    }
}

/// What is wrong with the first of its volumes that it can't have.
pub(super) fn volumes(seen: &Seen) -> Option<Aspect> {
    let mut volumes = seen.volumes.iter();
    volumes.find_map(|volume| volume_problem(&volume.name, &volume.state))
}

fn root_disk(instance: &Instance, seen: &Seen, built: bool) -> Need {
    let there = || Need::met(disks_created());
    if instance.spec.image.is_none() || seen.root_disk {
        return there();
    }
    if built {
        if let Some(need) = shelve::root_disk(instance, seen) {
            return need;
        }
        return Need::unmet(Aspect::stuck(
            Reason::HypervisorError,
            format!(
                "the root disk is gone from {}: ask for a rebuild, or delete the Instance and create it anew",
                seen.node
            ),
        ));
    }
    let Some(flavor) = &seen.flavor else {
        return Need::unmet(Aspect::waits(
            Reason::FlavorNotFound,
            format!("spec.flavor: there is no Flavor {:?}: create it", instance.spec.flavor),
        ));
    };
    match &seen.image {
        None => there(),
        Some(Image::NotFound(message)) => Need::unmet(Aspect::waits(Reason::ImageNotFound, message)),
        Some(Image::Known {
            uid,
            min_disk,
            min_memory,
            cache,
        }) => from_image(uid, cache, flavor, *min_disk, *min_memory),
    }
}

pub(super) fn from_image(uid: &str, cache: &Cache, flavor: &BuiltFlavor, min_disk: Bytes, min_memory: Bytes) -> Need {
    let virtual_size = match cache {
        Cache::Cached { virtual_size } => *virtual_size,
        _ => Bytes::ZERO,
    };
    if let Some(message) = does_not_fit(flavor, virtual_size, min_disk, min_memory) {
        return Need::unmet(Aspect::stuck(Reason::ImageDoesNotFit, message));
    }
    match cache {
        Cache::Absent => Need {
            aspect: Aspect::waits(Reason::ImagePulling, "fetching the image"),
            effects: vec![Effect::PullImage { uid: uid.into() }],
            met: false,
        },
        Cache::Pulling(None) => Need::unmet(Aspect::waits(Reason::ImagePulling, "fetching the image")),
        Cache::Pulling(Some(percent)) => Need::unmet(Aspect::waits(
            Reason::ImagePulling,
            format!("fetching the image: {percent} %"),
        )),
        Cache::Invalid(message) => Need::unmet(Aspect::stuck(Reason::ImageInvalid, message)),
        Cache::Unreachable(message) => Need::unmet(Aspect::waits(Reason::ImageUnreachable, message)),
        Cache::Cached { virtual_size } => Need {
            aspect: Aspect::waits(Reason::Building, "creating the root disk"),
            effects: vec![Effect::CreateRootDisk {
                uid: uid.into(),
                size: if flavor.disk == Bytes::ZERO {
                    *virtual_size
                } else {
                    flavor.disk
                },
            }],
            met: true,
        },
    }
}

/// Why an image can't be used with a flavor (Glance's `min_disk` and `min_ram`, and Nova's `FlavorDiskSmallerThanImage`).
fn does_not_fit(flavor: &BuiltFlavor, virtual_size: Bytes, min_disk: Bytes, min_memory: Bytes) -> Option<String> {
    let needed = virtual_size.max(min_disk);
    if flavor.disk != Bytes::ZERO && needed > flavor.disk {
        return Some(format!(
            "the image needs a root disk of {needed}, and flavor {} has {}",
            flavor.name, flavor.disk
        ));
    }
    (min_memory > flavor.memory).then(|| {
        format!(
            "the image needs {min_memory} of memory, and flavor {} has {}",
            flavor.name, flavor.memory
        )
    })
}

pub(super) fn volume_problem(name: &str, state: &VolumeUse) -> Option<Aspect> {
    let aspect = match state {
        VolumeUse::Ready => return None,
        VolumeUse::NotFound => Aspect::waits(
            Reason::VolumeNotFound,
            format!("there is no Volume {name:?}: create it"),
        ),
        VolumeUse::Deleting => Aspect::waits(
            Reason::VolumeNotFound,
            format!("the Volume {name} is being deleted: create it anew once it is gone"),
        ),
        VolumeUse::Unbound => Aspect::waits(
            Reason::WaitingForConsumer,
            format!("the Volume {name} is not bound to a node yet"),
        ),
        VolumeUse::OnOtherNode(node) => Aspect::waits(
            Reason::VolumeAttachedElsewhere,
            format!("the Volume {name} is on node {node}: it can be attached only there"),
        ),
        VolumeUse::HeldBy(holder) => Aspect::waits(
            Reason::VolumeAttachedElsewhere,
            format!("the Volume {name} belongs to Instance {holder}: take it out of that one, or name another volume"),
        ),
        VolumeUse::NotReady(why) => Aspect::waits(Reason::Building, format!("the Volume {name} is not ready: {why}")),
    };
    Some(aspect)
}

/// The ports, and the networks that they are plugged into.
pub(super) fn network(instance: &Instance, seen: &Seen) -> Need {
    let mut interfaces = seen.interfaces.iter();
    let problem = interfaces.find_map(|interface| interface_problem(instance, interface));
    problem.map_or_else(
        || Need {
            effects: seen
                .interfaces
                .iter()
                .map(|interface| Effect::EnsureNetwork {
                    network: interface.network.clone(),
                })
                .collect(),
            ..Need::met(ports_plugged())
        },
        Need::unmet,
    )
}

/// The same before the seed is written, which tells the guest of its VLANs once: a sub-port that is on its way is waited for.
/// When the controller says what is in the way of one, the guest starts without.
pub(super) fn network_to_tell(instance: &Instance, seen: &Seen) -> Need {
    let plugged = network(instance, seen);
    let mut subs = seen.sub_ports.iter().filter(|_| plugged.met && !seen.seed);
    let Some(missing) = subs.find(|sub| !matches!(sub.state, InterfaceUse::Ready(_))) else {
        return plugged;
    };
    match controllers_word(instance).filter(|word| tells_of_trunk(&word.message)) {
        Some(aspect) => Need { aspect, ..plugged },
        None => Need::unmet(sub_port_comes(missing)),
    }
}

pub(super) fn interface_problem(instance: &Instance, interface: &Interface) -> Option<Aspect> {
    let name = &interface.network;
    match &interface.state {
        InterfaceUse::Ready(_) => None,
        InterfaceUse::NoNetwork => Some(controllers_word(instance).unwrap_or_else(|| {
            Aspect::waits(
                Reason::NetworkNotFound,
                format!("spec.interfaces[{name}]: there is no Network {name:?}: create it"),
            )
        })),
        InterfaceUse::NoPort => Some(controllers_word(instance).unwrap_or_else(|| {
            Aspect::waits(
                Reason::NetworkNotReady,
                format!("waiting for an address in Network {name}"),
            )
        })),
        InterfaceUse::Invalid(why) => Some(Aspect::waits(
            Reason::NetworkNotReady,
            format!("the Network {name} can't be used: {why}"),
        )),
    }
}

/// What a guest's trunk lacks. Guests start without; OVN takes what comes.
pub(super) fn sub_port_problem(instance: &Instance, sub: &Interface) -> Option<Aspect> {
    if matches!(sub.state, InterfaceUse::Ready(_)) {
        return None;
    }
    Some(controllers_word(instance).unwrap_or_else(|| sub_port_comes(sub)))
}

fn sub_port_comes(sub: &Interface) -> Aspect {
    Aspect::waits(
        Reason::NetworkNotReady,
        format!("waiting for the sub-port in Network {}", sub.network),
    )
}

/// Why there is no Port, which only the controller knows. It says so in the same condition: to say something else would
/// make each of the two write over the other, again and again.
fn controllers_word(instance: &Instance) -> Option<Aspect> {
    let mut conditions = old_conditions(instance).iter();
    let said = conditions.find(|c| c.type_ == types::NETWORK_READY && c.status == ConditionStatus::False.as_str())?;
    let reason = reason_of(said);
    let of_ports = matches!(
        reason,
        Reason::AddressExhausted
            | Reason::AddressInUse
            | Reason::AddressInvalid
            | Reason::NetworkNotFound
            | Reason::NetworkNotReady
            | Reason::SecurityGroupNotFound
            | Reason::NotEnforced
            | Reason::NotSupported
            | Reason::Invalid
    );
    of_ports.then(|| Aspect::waits(reason, said.message.clone()))
}

pub(super) fn disks_created() -> Aspect {
    Aspect::holds(Reason::DisksCreated, "the disks exist")
}

pub(super) fn ports_plugged() -> Aspect {
    Aspect::holds(Reason::PortsPlugged, "the ports are plugged")
}
