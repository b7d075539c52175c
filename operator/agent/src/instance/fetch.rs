//! What is there of an Instance? One look at libvirt, at the disk and at the stores.

use kube::{Api, ResourceExt};
use uuid::Uuid;
use virga_core::{
    instance::{
        Cache, Domain, Image as ImageSeen, Interface, InterfaceUse, Power, Room, Seen, Volume as VolumeSeen, VolumeUse,
        WentOff,
    },
    network,
    volume::Claimant,
};
use virga_crds::{Address, BuiltFlavor, Image, ImageVisibility, Instance, Port, Volume};
use virga_hypervisor::{DomainInfo, DomainState, Kind, StateReason};

use super::{power_record, room};
use crate::{
    host::Host,
    volume::{Claim, claimants},
};

/// Looks. Never fails: what can't be found out is a fact too.
pub async fn seen(host: &Host, instance: &Instance, uid: Uuid) -> Seen {
    let files = host.layout.instance(uid);
    let (root_disk, seed, power) = tokio::join!(
        exists(files.root_disk()),
        exists(files.seed()),
        power_record::read(&files)
    );
    let mut domain = domain(host, uid).await;
    let flavor = flavor(host, instance);
    let untouched = domain == Domain::Absent && !root_disk && !seed;
    let room = if untouched {
        match room::room(host, instance).await {
            Ok(room) => room,
            Err(error) => {
                domain = Domain::Unreachable(error.to_string());
                Room::Enough
            }
        }
    } else {
        Room::Enough
    };
    Seen {
        node: host.node.clone(),
        volumes: volumes(host, instance, uid, &domain).await,
        domain,
        root_disk,
        seed,
        power,
        flavor,
        image: image(host, instance),
        interfaces: interfaces(host, instance),
        room,
    }
}

async fn exists(path: std::path::PathBuf) -> bool {
    tokio::fs::symlink_metadata(path).await.is_ok()
}

/// The domain, as libvirt says.
pub async fn domain(host: &Host, uid: Uuid) -> Domain {
    match host.read(uid, move |hypervisor| hypervisor.domain(uid)).await {
        Ok(info) => Domain::Defined(power(&info)),
        Err(error) => match error.kind() {
            Kind::NotFound => Domain::Absent,
            Kind::Foreign => Domain::Foreign(error.to_string()),
            _ => Domain::Unreachable(error.to_string()),
        },
    }
}

/// libvirt's state and reason, in the words that decisions are made in.
fn power(info: &DomainInfo) -> Power {
    match info.state {
        DomainState::Running => Power::Running,
        DomainState::Paused if info.reason == StateReason::IoError => Power::IoError,
        DomainState::Paused => Power::Paused,
        DomainState::Sleeping => Power::Sleeping,
        DomainState::ShuttingDown => Power::ShuttingDown,
        DomainState::Crashed => Power::Crashed,
        DomainState::ShutOff => Power::Off(match info.reason {
            StateReason::Shutdown => WentOff::ByGuest,
            StateReason::Crashed => WentOff::Crashed,
            StateReason::Failed => WentOff::Failed,
            StateReason::Destroyed | StateReason::User => WentOff::Destroyed,
            _ => WentOff::Unknown,
        }),
    }
}

/// As built, or as the Flavor says now.
fn flavor(host: &Host, instance: &Instance) -> Option<BuiltFlavor> {
    let built = instance.status.as_ref().and_then(|status| status.flavor.clone());
    built.or_else(|| named_flavor(host, &instance.spec.flavor))
}

/// A Flavor by its name.
pub fn named_flavor(host: &Host, name: &str) -> Option<BuiltFlavor> {
    let flavor = host.stores.flavors.find(|flavor| flavor.name_any() == name)?;
    Some(BuiltFlavor {
        name: name.into(),
        vcpus: flavor.spec.vcpus,
        memory: flavor.spec.memory,
        disk: flavor.spec.disk,
    })
}

fn image(host: &Host, instance: &Instance) -> Option<ImageSeen> {
    let named = instance.spec.image.as_ref()?;
    let own = instance.namespace().unwrap_or_default();
    Some(find_image(host, &own, named))
}

/// An Image that an object of namespace `own` names.
pub fn find_image(host: &Host, own: &str, named: &virga_crds::ImageRef) -> ImageSeen {
    let namespace = named.namespace.as_deref().unwrap_or(own);
    let is_it = |image: &Image| image.name_any() == named.name && image.namespace().as_deref() == Some(namespace);
    let place = if namespace == own {
        String::new()
    } else {
        format!(" in project {namespace}")
    };
    let Some(image) = host.stores.images.find(is_it) else {
        return ImageSeen::NotFound(format!("there is no Image {:?}{place}: create it", named.name));
    };
    if namespace != own && image.spec.visibility != ImageVisibility::Public {
        // The same words as for one that doesn't exist: a private image's name is nobody else's business.
        return ImageSeen::NotFound(format!("there is no Image {:?}{place}: create it", named.name));
    }
    if image.metadata.deletion_timestamp.is_some() && host.images.state(&image) == Cache::Absent {
        return ImageSeen::NotFound(format!("the Image {}{place} is being deleted", named.name));
    }
    ImageSeen::Known {
        uid: image.uid().unwrap_or_default(),
        min_disk: image.spec.min_disk,
        min_memory: image.spec.min_memory,
        cache: host.images.state(&image),
    }
}

fn interfaces(host: &Host, instance: &Instance) -> Vec<Interface> {
    let namespace = instance.namespace();
    let state = |name: &str| {
        let network = host
            .stores
            .networks
            .find(|network| network.name_any() == name && network.namespace() == namespace);
        let Some(network) = network else {
            return InterfaceUse::NoNetwork;
        };
        if let Err(problems) = network::validate(&network.spec) {
            return InterfaceUse::Invalid(problems.to_string());
        }
        match port(host, instance, name) {
            None => InterfaceUse::NoPort,
            Some(port) => InterfaceUse::Ready(addresses(&port)),
        }
    };
    let asked = instance.spec.interfaces.iter();
    asked
        .map(|interface| Interface {
            network: interface.network.clone(),
            state: state(&interface.network),
        })
        .collect()
}

/// The Port with which an Instance is plugged into a network: its own, not one of an Instance that had its name.
pub fn port(host: &Host, instance: &Instance, network: &str) -> Option<std::sync::Arc<Port>> {
    host.stores.ports.find(|port| {
        port.namespace() == instance.namespace()
            && port.spec.instance == instance.name_any()
            && port.spec.network == network
            && port
                .owner_references()
                .iter()
                .any(|owner| Some(&owner.uid) == instance.metadata.uid.as_ref())
    })
}

fn addresses(port: &Port) -> Vec<Address> {
    let of = |address: &virga_crds::PortAddress| Address {
        network: port.spec.network.clone(),
        ip: address.ip.clone(),
        mac: port.spec.mac.clone(),
    };
    port.spec.addresses.iter().map(of).collect()
}

/// The names of an Instance's volumes: the boot volume, then the others.
pub fn volume_names(instance: &Instance) -> impl Iterator<Item = &str> {
    let boot = instance.spec.boot_volume.as_deref();
    boot.into_iter()
        .chain(instance.spec.volumes.iter().map(|volume| volume.name.as_str()))
}

async fn volumes(host: &Host, instance: &Instance, uid: Uuid, domain: &Domain) -> Vec<VolumeSeen> {
    let mut volumes = Vec::new();
    for name in volume_names(instance) {
        volumes.push(VolumeSeen {
            name: name.into(),
            state: volume_use(host, instance, uid, domain, name).await,
        });
    }
    volumes
}

async fn volume_use(host: &Host, instance: &Instance, uid: Uuid, domain: &Domain, name: &str) -> VolumeUse {
    let namespace = instance.namespace().unwrap_or_default();
    let here = host
        .stores
        .volumes
        .find(|volume| volume.name_any() == name && volume.namespace().as_deref() == Some(&namespace));
    let Some(volume) = here else {
        return elsewhere(host, &namespace, name).await;
    };
    if volume.metadata.deletion_timestamp.is_some() {
        return VolumeUse::Deleting;
    }
    let Some(volume_uid) = volume.uid().and_then(|uid| uid.parse::<Uuid>().ok()) else {
        return VolumeUse::NotReady("it has no uid".into());
    };
    let me = Claimant {
        without_domain: !matches!(domain, Domain::Defined(_)),
        created: instance.metadata.creation_timestamp.as_ref().map(|time| time.0),
        uid: uid.to_string(),
        name: instance.name_any(),
    };
    let others = claimants(host, &namespace, name, Some(uid)).await;
    match host.claims.claim(volume_uid, me, others) {
        Claim::Mine => {}
        Claim::Of(other) => return VolumeUse::HeldBy(other),
        Claim::Deleting => return VolumeUse::Deleting,
    }
    if exists(host.layout.volume(volume_uid)).await {
        VolumeUse::Ready
    } else {
        VolumeUse::NotReady(why_not_ready(&volume))
    }
}

fn why_not_ready(volume: &Volume) -> String {
    let conditions = volume.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions
        .into_iter()
        .find(|c| c.type_ == virga_crds::conditions::types::READY);
    ready.map_or_else(|| "it is being made".into(), |ready| ready.message.clone())
}

/// A volume that isn't bound to this node is not in the store: the API server is asked where it is.
async fn elsewhere(host: &Host, namespace: &str, name: &str) -> VolumeUse {
    let volumes = Api::<Volume>::namespaced(host.client.clone(), namespace);
    match volumes.get_opt(name).await {
        Ok(None) => VolumeUse::NotFound,
        Ok(Some(volume)) => match volume.spec.node_name {
            None => VolumeUse::Unbound,
            Some(node) if node == host.node => VolumeUse::NotReady("it was bound just now".into()),
            Some(node) => VolumeUse::OnOtherNode(node),
        },
        Err(error) => VolumeUse::NotReady(format!("asking for it: {error}")),
    }
}
