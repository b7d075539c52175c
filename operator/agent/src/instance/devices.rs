//! What is plugged into an Instance's domain, in the words that decisions are made in; and plugging in and out.

use std::path::Path;

use kube::{ResourceExt, runtime::reflector::ObjectRef};
use uuid::Uuid;
use virga_core::flavor::Machine;
use virga_core::instance::{
    Asked, Devices, Disk, DiskKind, Domain, Effect, Nic, NicKind, OwnPort, Plugged, Power, Present, Side, flavor_name,
};
use virga_core::network::is_going;
use virga_crds::{Address, Bytes, Instance, Port};
use virga_hypervisor::{self as hypervisor, Device, DeviceName, DomainDevices, MacAddress};

use virga_runtime::class::chain;

use super::{apply, domain_spec, machine, root_record, root_seen};
use crate::{effect::Error, host::Host, layout::InstanceFiles};

/// Where a boot volume is.
const BOOT_TARGET: &str = "vda";

/// Looks. What can't be found out is absent.
pub(super) async fn seen(host: &Host, instance: &Instance, uid: Uuid, domain: &Domain) -> Devices {
    let namespace = instance.namespace().unwrap_or_default();
    let present = match domain {
        Domain::Defined(power) => present(host, uid, is_active(*power)).await,
        _ => None,
    };
    let named = virga_core::volume::volume_names(instance);
    let volumes = named.filter_map(|name| Some((name.to_owned(), host.stores.volume(&namespace, name)?.uid()?)));
    let ports = instance.spec.interfaces.iter().filter_map(|interface| {
        let port = host.stores.port(instance, &interface.network)?;
        let own = OwnPort {
            uid: port.uid()?,
            mac: port.spec.mac.clone(),
        };
        // One that goes is not plugged in any more.
        let stays = !is_going(&port);
        stays.then(|| (interface.network.clone(), own))
    });
    let owner = present.as_ref().and_then(|present| present.defined.owner.as_ref());
    let machine = asked_machine(host, instance, uid).await.ok();
    Devices {
        cold_disks: machine.is_some_and(|(machine, _)| machine::has_cold_disks(&machine)),
        generation: owner.map(|owner| owner.generation),
        volumes: volumes.collect(),
        ports: ports.collect(),
        asked: host.plugged.asked(uid, host.clock.now()),
        present: present.map(|present| Present {
            defined: plugged(host, instance, uid, &present.defined),
            running: present.running.as_ref().map(|side| plugged(host, instance, uid, side)),
        }),
    }
}

/// Both descriptions of a domain. libvirt's word of a start or an end may come after a look that knows of it already.
async fn present(host: &Host, uid: Uuid, active: bool) -> Option<std::sync::Arc<DomainDevices>> {
    let known = host.plugged.of(host, uid).await.ok()?;
    if known.running.is_some() == active {
        return Some(known);
    }
    host.plugged.touch(uid);
    let known = host.plugged.of(host, uid).await.ok()?;
    (known.running.is_some() == active).then_some(known)
}

fn is_active(power: Power) -> bool {
    !matches!(power, Power::Off(_) | Power::Saved | Power::BrokenSave)
}

fn plugged(host: &Host, instance: &Instance, uid: Uuid, side: &hypervisor::Devices) -> Plugged {
    let files = host.layout.instance(uid);
    let disks = side.disks.iter().map(|disk| Disk {
        target: disk.target.clone(),
        kind: disk.path.as_deref().map_or_else(
            || DiskKind::Foreign("not a file".into()),
            |path| kind(host, instance, &files, &disk.target, path),
        ),
    });
    let nics = side.interfaces.iter().map(|nic| Nic {
        mac: nic.mac.to_string(),
        kind: nic_kind(host, nic.alias.as_deref()),
    });
    Plugged {
        disks: disks.collect(),
        interfaces: nics.collect(),
        vcpus: side.vcpus,
        memory: Bytes(side.memory_bytes),
        title: side.title.clone(),
        free_ports: side.free_ports,
    }
}

fn kind(host: &Host, instance: &Instance, files: &InstanceFiles, target: &str, path: &Path) -> DiskKind {
    if path == files.root_disk() {
        return DiskKind::Root;
    }
    if path.starts_with(files.directory()) {
        return DiskKind::Own;
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let volume: Option<Uuid> = stem.and_then(|stem| stem.parse().ok());
    let Some(uid) = volume.filter(|uid| host.layout.volume(*uid) == path) else {
        return DiskKind::Foreign(path.display().to_string());
    };
    let uid = uid.to_string();
    let known = host
        .stores
        .volumes
        .find(|volume| volume.metadata.uid.as_ref() == Some(&uid));
    let name = known.map(|volume| volume.name_any());
    let boots = instance.spec.boot_volume.as_ref();
    if boots.is_some_and(|boots| name.as_ref().map_or(target == BOOT_TARGET, |name| name == boots)) {
        return DiskKind::Root;
    }
    DiskKind::Volume { uid, name }
}

fn nic_kind(host: &Host, alias: Option<&str>) -> NicKind {
    let port = alias.and_then(|alias| alias.strip_prefix("ua-"));
    let Some(uid) = port.filter(|uid| uid.parse::<Uuid>().is_ok()) else {
        return NicKind::Foreign;
    };
    let port = host.stores.ports.find(|port| port.metadata.uid.as_deref() == Some(uid));
    NicKind::Port {
        uid: uid.to_owned(),
        network: port.as_ref().map(|port| port.spec.network.clone()),
        addresses: port.as_deref().map(addresses).unwrap_or_default(),
    }
}

/// A Port's addresses.
pub(super) fn addresses(port: &Port) -> Vec<Address> {
    let of = |address: &virga_crds::PortAddress| Address {
        network: port.spec.network.clone(),
        ip: address.ip.clone(),
        mac: port.spec.mac.clone(),
    };
    port.spec.addresses.iter().map(of).collect()
}

/// What is defined of a domain, if it exists.
pub(super) async fn defined(host: &Host, uid: Uuid) -> Result<Option<hypervisor::Devices>, Error> {
    match host.plugged.of(host, uid).await {
        Ok(devices) => Ok(Some(devices.defined.clone())),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Plugs in or out.
pub(super) async fn carry_out(host: &Host, instance: &Instance, uid: Uuid, effect: &Effect) -> Result<(), Error> {
    let result = match effect {
        Effect::AttachVolume {
            uid: volume,
            target,
            side,
            ..
        } => {
            let file = parse(volume)?;
            let mut disk = domain_spec::volume_disk(target.clone(), file, &host.layout);
            disk.cache = host.disk_cache;
            machine::shape_disk(&mut disk, &asked_machine(host, instance, uid).await?.0);
            host.plugged.unask(uid, &Asked::Volume(volume.clone()));
            attach(host, uid, Device::Disk(Box::new(disk)), *side).await
        }
        Effect::AttachInterface { network, side } => {
            let mut interface = apply::interface_in(host, instance, network)?;
            let (machine, vcpus) = asked_machine(host, instance, uid).await?;
            interface.options = machine::interface(&machine, vcpus);
            let mac = interface.mac.to_string();
            host.plugged.unask(uid, &Asked::Interface(mac));
            attach(host, uid, Device::Interface(interface), *side).await
        }
        Effect::DetachVolume { uid: volume, side } => {
            let name = DeviceName::Disk(host.layout.volume(parse(volume)?));
            detach(host, uid, name, *side, Asked::Volume(volume.clone())).await
        }
        Effect::DetachInterface { mac, side } => {
            let address: MacAddress = mac
                .parse()
                .map_err(|_| Error::Gone(format!("the interface {mac} has no usable MAC address")))?;
            let asked = Asked::Interface(mac.clone());
            detach(host, uid, DeviceName::Interface(address), *side, asked).await
        }
        _ => Ok(()),
    };
    // Also when it failed: it may have been done all the same.
    host.plugged.touch(uid);
    if let Effect::AttachVolume { uid: volume, .. } | Effect::DetachVolume { uid: volume, .. } = effect {
        let known = host
            .stores
            .volumes
            .find(|known| known.metadata.uid.as_ref() == Some(volume));
        if let Some(volume) = known {
            host.plugged.tell(ObjectRef::from_obj(volume.as_ref()));
        }
    }
    Ok(result?)
}

/// The machine that devices are plugged into, and its CPUs.
async fn asked_machine(host: &Host, instance: &Instance, uid: Uuid) -> Result<(Machine, u32), Error> {
    let record = root_record::read(&host.layout.instance(uid)).await;
    let record = record.map_err(|error| Error::Gone(chain(&error)))?;
    let flavor = root_seen::built(host, instance, &record);
    let flavor = flavor.ok_or_else(|| Error::Gone(format!("the Flavor {} is gone", flavor_name(instance))))?;
    let image = apply::machines_image(host, instance, &record);
    let machine = machine::asked(host, &flavor, image.as_deref()).map_err(Error::Machine)?;
    Ok((machine, flavor.vcpus.into()))
}

async fn attach(host: &Host, uid: Uuid, device: Device, side: Side) -> hypervisor::Result<()> {
    host.change(uid, move |hypervisor| hypervisor.attach(uid, &device, side_of(side)))
        .await
}

async fn detach(host: &Host, uid: Uuid, device: DeviceName, side: Side, asked: Asked) -> hypervisor::Result<()> {
    let result = host
        .change(uid, move |hypervisor| hypervisor.detach(uid, &device, side_of(side)))
        .await;
    match side {
        Side::Running => host.plugged.ask(uid, asked, host.clock.now()),
        Side::Defined => host.plugged.unask(uid, &asked),
    }
    result
}

fn side_of(side: Side) -> hypervisor::Side {
    match side {
        Side::Defined => hypervisor::Side::Defined,
        Side::Running => hypervisor::Side::Running,
    }
}

fn parse(volume: &str) -> Result<Uuid, Error> {
    volume
        .parse()
        .map_err(|_| Error::Gone(format!("the Volume {volume} has no usable uid")))
}
