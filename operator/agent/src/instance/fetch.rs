//! What is there of an Instance? One look at libvirt, at the disk and at the stores.

use kube::{Api, ResourceExt};
use uuid::Uuid;
use virga_core::{
    instance::{
        Devices, Domain, Image as ImageSeen, Interface, InterfaceUse, Power, Room, RootSeen, Seen,
        Volume as VolumeSeen, VolumeUse, flavor_name, stays_shelved, sub_ports, wants_guest_agent,
    },
    network::is_going,
    volume::{Claimant, volume_names},
};
use virga_crds::{Bytes, Instance, InstanceTopology, PowerState, Volume};

use super::{deeds_record, devices, power_record, root_seen, shelved};
use crate::{
    capacity::Disk,
    claimants::claimants,
    claims::Claim,
    domain,
    host::Host,
    migration,
    plugged::has_file,
    room,
    topology::{self, Error},
};
use virga_runtime::class::chain;

/// Looks. Never fails: what can't be found out is a fact too.
pub async fn seen(host: &Host, instance: &Instance, uid: Uuid) -> Seen {
    let files = host.layout.instance(uid);
    let (root_disk, seed, power) = tokio::join!(
        exists(files.root_disk()),
        exists(files.seed()),
        power_record::read(&files)
    );
    let mut domain = domain::look(host, uid).await;
    let untouched = domain == Domain::Absent && !root_disk && !seed && !stays_shelved(instance);
    let place = if untouched && instance.metadata.deletion_timestamp.is_none() {
        place(host, instance, uid).await
    } else {
        host.topologies.held(uid).await.map(|held| (Room::Enough, held))
    };
    let beside = root_seen::seen(host, instance, uid, &files)
        .await
        .unwrap_or_else(|error| {
            domain = Domain::Unreachable(chain(&error));
            RootSeen::default()
        });
    let (room, topology) = place.unwrap_or_else(|error| {
        domain = Domain::Unreachable(chain(&error));
        // What was told stays: the scheduler would take it for free.
        (
            Room::Enough,
            instance.status.as_ref().and_then(|status| status.topology.clone()),
        )
    });
    let devices = devices::seen(host, instance, uid, &domain).await;
    let mut health = host.usage.health(uid);
    if domain == Domain::Defined(Power::IoError) {
        health.disk_faults = domain::disk_faults(host, uid).await;
    }
    let deeds = deeds_record::read(&files).await;
    // A guest that just ran may run no more: then there is no agent either.
    let guest_agent = domain == Domain::Defined(Power::Running)
        && wants_guest_agent(instance, deeds, host.clock.now())
        && host
            .read(uid, move |hypervisor| hypervisor.has_guest_agent(uid))
            .await
            .unwrap_or(false);
    Seen {
        deeds,
        guest_agent,
        node: host.node.clone(),
        health,
        volumes: volumes(host, instance, uid, &devices).await,
        devices,
        domain,
        root_disk,
        seed,
        power,
        flavor: root_seen::built(host, instance, &beside.record),
        image: image(host, instance),
        root: beside,
        interfaces: interfaces(host, instance),
        sub_ports: trunked(host, instance),
        topology,
        room,
        save_room: save_room(host, instance),
        snapshotting: host.snapshots.of(uid),
        shelve: shelved::seen(host, instance, &files).await,
        leaving: migration::leaving(host, uid),
    }
}

/// Whether there is room for one of which nothing exists here yet, and which CPUs, pages and devices it has then. They
/// are claimed with the look: what is not claimed may be gone before anything is made of it.
async fn place(host: &Host, instance: &Instance, uid: Uuid) -> Result<(Room, Option<InstanceTopology>), Error> {
    let rejected = instance.status.as_ref();
    let rejected = rejected.is_some_and(|status| status.rejected_by.contains(&host.node));
    let why = match room::room(host, instance).await? {
        Room::Short(why) => why,
        Room::Enough if rejected => {
            host.topologies.release(uid).await?;
            return Ok((Room::Enough, None));
        }
        Room::Enough => match topology::claim(host, instance, uid, flavor_name(instance), false).await {
            Ok(held) => return Ok((Room::Enough, held)),
            Err(error @ (Error::Misfit(_) | Error::Shape(_))) => error.to_string(),
            Err(error) => return Err(error),
        },
    };
    // It goes to another host: nothing of this one is kept for it.
    host.topologies.release(uid).await?;
    Ok((Room::Short(why), None))
}

/// Whether the host's disk has room for the guest's memory, if that may have to be saved. The data directory's file
/// system is asked: libvirt's own directory, where the memory goes, is not the agent's to see.
fn save_room(host: &Host, instance: &Instance) -> Room {
    if instance.spec.power_state != PowerState::Suspended {
        return Room::Enough;
    }
    let memory = host
        .stores
        .flavor_of(instance)
        .map_or(Bytes::ZERO, |flavor| flavor.memory);
    let free = Disk::of(&host.layout).free;
    if free >= memory {
        Room::Enough
    } else {
        Room::Short(format!(
            "spec.powerState: the host's disk has {free} left, too little for the guest's memory of {memory}: it runs on \
             until there is room"
        ))
    }
}

pub(super) async fn exists(path: std::path::PathBuf) -> bool {
    tokio::fs::symlink_metadata(path).await.is_ok()
}

fn image(host: &Host, instance: &Instance) -> Option<ImageSeen> {
    let named = instance.spec.image.as_ref()?;
    let own = instance.namespace().unwrap_or_default();
    Some(host.images.seen(&own, named))
}

/// The sub-ports. OVN, on the word of the controller, does what is to be done for them.
fn trunked(host: &Host, instance: &Instance) -> Vec<Interface> {
    let subs = instance.spec.interfaces.iter().flat_map(sub_ports);
    subs.map(|sub| {
        let network = sub.interface.network.clone();
        let port = host.stores.port(instance, &network);
        let port = port.filter(|port| !is_going(port));
        let state = port.map_or(InterfaceUse::NoPort, |port| {
            InterfaceUse::Ready(devices::addresses(&port))
        });
        Interface { network, state }
    })
    .collect()
}

fn interfaces(host: &Host, instance: &Instance) -> Vec<Interface> {
    let state = |name: &str| {
        let Some(network) = host.stores.network_of(instance, name) else {
            return InterfaceUse::NoNetwork;
        };
        if let Err(problems) = host.networks.valid(&network) {
            return InterfaceUse::Invalid(problems.to_string());
        }
        match host.stores.port(instance, name) {
            None => InterfaceUse::NoPort,
            Some(port) if is_going(&port) => InterfaceUse::NoPort,
            Some(port) => InterfaceUse::Ready(devices::addresses(&port)),
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

async fn volumes(host: &Host, instance: &Instance, uid: Uuid, devices: &Devices) -> Vec<VolumeSeen> {
    let mut volumes = Vec::new();
    for name in volume_names(instance) {
        volumes.push(VolumeSeen {
            name: name.into(),
            state: volume_use(host, instance, uid, devices, name).await,
        });
    }
    volumes
}

async fn volume_use(host: &Host, instance: &Instance, uid: Uuid, devices: &Devices, name: &str) -> VolumeUse {
    let namespace = instance.namespace().unwrap_or_default();
    let Some(volume) = host.stores.volume(&namespace, name) else {
        return elsewhere(host, &namespace, name).await;
    };
    if volume.metadata.deletion_timestamp.is_some() {
        return VolumeUse::Deleting;
    }
    let Some(volume_uid) = volume.uid().and_then(|uid| uid.parse::<Uuid>().ok()) else {
        return VolumeUse::NotReady("it has no uid".into());
    };
    let file = host.layout.volume(volume_uid);
    let plugged = devices.present.as_ref().and_then(|_| host.plugged.last(uid));
    let has = plugged.is_some_and(|plugged| has_file(&plugged, &file));
    let me = Claimant {
        without_it: !has,
        created: instance.metadata.creation_timestamp.as_ref().map(|time| time.0),
        uid: uid.to_string(),
        name: instance.name_any(),
    };
    let others = claimants(host, &namespace, name, &file, Some(uid)).await;
    match host.claims.claim(volume_uid, me, others) {
        Claim::Mine => {}
        Claim::Of(other) => return VolumeUse::HeldBy(other),
        Claim::Deleting => return VolumeUse::Deleting,
    }
    if exists(file).await {
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
