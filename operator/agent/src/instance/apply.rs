//! Carrying effects out. Each is idempotent, bounded in time, and says what went wrong in words for the user.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use kube::ResourceExt;
use uuid::Uuid;
use virga_core::{
    instance::{Asked, Effect, ResizeRecord, RootRecord, flavor_name, sub_ports},
    network::ValidNetwork,
    volume::volume_names,
};
use virga_crds::{Bytes, Image, Instance, Network, Port, Volume, finalizers};
use virga_hypervisor::{DeviceName, DomainSpec, Firmware, Hypervisor, InterfaceOptions, InterfaceSpec, Kind};
use virga_runtime::class::chain;

use super::{
    boot_image::BootImage,
    deeds_record, devices,
    domain_spec::{self, Parts, Root},
    machine, power_record, root_disk, root_record, root_seen, seed, shelved,
};
use crate::{
    effect::Error,
    host::{CHANGE, Host, READ},
    layout::InstanceFiles,
    password, port,
    removal::remove_directory,
    topology, userdata,
};

/// What a slow disk writes in a second, in bytes.
const SLOW_DISK: u64 = 16 << 20;

/// Carries one effect out.
pub async fn carry_out(host: &Host, instance: &Instance, uid: Uuid, effect: &Effect) -> Result<(), Error> {
    host.carry_out(effect.name(), act(host, instance, uid, effect)).await
}

async fn act(host: &Host, instance: &Instance, uid: Uuid, effect: &Effect) -> Result<(), Error> {
    let files = host.layout.instance(uid);
    match effect {
        Effect::PullImage { uid } => {
            let image = host.stores.image(uid);
            host.images
                .pull(image.ok_or_else(|| Error::Gone("the Image is gone".into()))?);
        }
        Effect::CreateRootDisk { uid, size } => root_disk::create(host, &files, uid, *size).await?,
        Effect::RecordRoot(record) => {
            // Before it is noted that the resize is over: the next pass does not come here again.
            if let Some(resize) = record.resize.as_ref().filter(|resize| !resize.is_open()) {
                host.topologies.settle(uid, resize.size().name.clone()).await?;
            }
            root_record::write(&files, record)
                .await
                .map_err(Error::io("noting what is made of the root disk"))?;
        }
        Effect::CreateNextRoot { uid, size } => root_disk::create_next(host, &files, uid, *size).await?,
        Effect::WriteNextSeed => write_seed(host, instance, uid, files.next_seed()).await?,
        Effect::DropNextRoot => root_disk::drop_next(&files).await?,
        Effect::ExchangeRoot => root_disk::exchange(&files).await?,
        Effect::CreateRescueDisk { uid, size } => root_disk::create_rescue(host, &files, uid, *size).await?,
        Effect::RemoveRescueDisk => root_disk::remove_rescue(&files).await?,
        Effect::GrowRoot { size, live } => grow_root(host, uid, &files, *size, *live).await?,
        Effect::WriteSeed => write_seed(host, instance, uid, files.seed()).await?,
        Effect::EnsureNetwork { network } => {
            // One that was shelved here may come back.
            host.networks.forget(&uid.to_string());
            host.networks.ensure(instance, network).await?;
        }
        Effect::Define => {
            let spec = domain_spec(host, instance, uid, &files).await?;
            host.change(uid, move |hypervisor| define(hypervisor, spec)).await?;
            host.plugged.touch(uid);
        }
        Effect::Redefine => {
            let spec = domain_spec(host, instance, uid, &files).await?;
            host.plugged.ask(uid, Asked::Definition, host.clock.now());
            let defined = host.change(uid, move |hypervisor| define(hypervisor, spec)).await;
            host.plugged.touch(uid);
            defined?;
        }
        Effect::MarkInLine => {
            let owner = domain_spec::owner(instance, uid);
            host.change(uid, move |hypervisor| hypervisor.set_owner(uid, &owner))
                .await?;
            host.plugged.touch(uid);
        }
        Effect::AttachVolume { .. }
        | Effect::DetachVolume { .. }
        | Effect::AttachInterface { .. }
        | Effect::DetachInterface { .. } => devices::carry_out(host, instance, uid, effect).await?,
        Effect::RecordPower(record) => power_record::write(&files, *record)
            .await
            .map_err(Error::io("noting a start or stop"))?,
        Effect::RecordDeeds(deeds) => deeds_record::write(&files, *deeds)
            .await
            .map_err(Error::io("noting what is done to the guest"))?,
        Effect::InjectNmi => host.change(uid, move |hypervisor| hypervisor.inject_nmi(uid)).await?,
        Effect::SetPassword => set_password(host, instance, uid).await?,
        Effect::Start => host.change(uid, move |hypervisor| hypervisor.start(uid)).await?,
        // Reading memory back takes as long as writing it did.
        Effect::Restore => {
            host.long(uid, saving(host, instance), move |hypervisor| hypervisor.start(uid))
                .await?;
        }
        Effect::Save => {
            host.long(uid, saving(host, instance), move |hypervisor| hypervisor.save(uid))
                .await?;
        }
        Effect::DiscardSaved => {
            host.change(uid, move |hypervisor| hypervisor.discard_saved(uid))
                .await?;
        }
        Effect::Suspend => host.change(uid, move |hypervisor| hypervisor.suspend(uid)).await?,
        Effect::Resume => host.change(uid, move |hypervisor| hypervisor.resume(uid)).await?,
        Effect::Shutdown => host.change(uid, move |hypervisor| hypervisor.shutdown(uid)).await?,
        Effect::Destroy => gone(host.change(uid, move |hypervisor| hypervisor.destroy(uid)).await)?,
        Effect::Undefine => gone(host.change(uid, move |hypervisor| hypervisor.undefine(uid)).await)?,
        Effect::ReleasePorts => match host.networks.release(instance).await {
            // The last guest's interface may take a moment to go; the loop over networks comes back.
            Err(port::Error::Backend(virga_network::Error::InUse { .. }) | port::Error::Invalid { .. }) => {}
            result => result?,
        },
        Effect::RemoveFiles => remove_directory(files.directory()).await?,
        Effect::Offload => {
            shelved::offload(host, uid, &files).await?;
            host.claims.release(&uid.to_string());
        }
        Effect::RemoveFinalizer => {
            host.claims.release(&uid.to_string());
            host.writer.remove_finalizer(instance, finalizers::AGENT).await?;
        }
    }
    Ok(())
}

async fn set_password(host: &Host, instance: &Instance, uid: Uuid) -> Result<(), Error> {
    let asked = instance.spec.admin_password.as_ref();
    let user = asked
        .ok_or_else(|| Error::Gone("no password is asked for any more".into()))?
        .user
        .clone();
    let namespace = instance.namespace().unwrap_or_default();
    let password = password::fetch(&host.controller, &namespace, &instance.name_any()).await?;
    let set = move |hypervisor: &dyn Hypervisor| hypervisor.set_password(uid, &user, &password);
    host.calls.guest(uid, READ, set).await.map_err(Error::Guest)
}

/// Makes the root disk larger: by libvirt while a guest has it, else its file. One that is as large is left as it is.
async fn grow_root(host: &Host, uid: Uuid, files: &InstanceFiles, size: Bytes, live: bool) -> Result<(), Error> {
    if !live {
        return root_disk::grow(host, files, size).await;
    }
    let defined = devices::defined(host, uid).await?;
    let target = defined.and_then(|defined| Some(defined.disk(&files.root_disk())?.target.clone()));
    let target = target.ok_or_else(|| Error::Gone("the domain has no root disk any more".into()))?;
    let bytes = root_disk::whole_sectors(size);
    host.change(uid, move |hypervisor| hypervisor.resize_disk(uid, &target, bytes))
        .await?;
    Ok(())
}

/// How long saving a guest's memory may take: as any change, and what a slow disk takes for all of it.
fn saving(host: &Host, instance: &Instance) -> Duration {
    let memory = host.stores.flavor_of(instance).map_or(0, |flavor| flavor.memory.0);
    CHANGE + Duration::from_secs(memory / SLOW_DISK)
}

/// Defines a domain under its short name, or its long one when another has the short one: it is for people, and made of
/// the uid's first digits only.
fn define(hypervisor: &dyn Hypervisor, mut spec: DomainSpec) -> virga_hypervisor::Result<()> {
    match hypervisor.define(&spec) {
        Err(error) if error.kind() == Kind::AlreadyExists => {
            spec.name = format!("virga-{}", spec.uuid);
            hypervisor.define(&spec)
        }
        result => result,
    }
}

/// A domain that is gone already is as good as one taken away.
fn gone(result: virga_hypervisor::Result<()>) -> virga_hypervisor::Result<()> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}

async fn write_seed(host: &Host, instance: &Instance, uid: Uuid, path: PathBuf) -> Result<(), Error> {
    let asked = instance.spec.user_data.as_ref();
    let user_data = match asked.map(|data| data.inline.as_ref()) {
        None => None,
        Some(Some(text)) => Some(text.clone().into_bytes()),
        Some(None) => {
            let namespace = instance.namespace().unwrap_or_default();
            Some(userdata::fetch(&host.controller, &namespace, &instance.name_any()).await?)
        }
    };
    let told = told(host, instance)?;
    let pairs: Vec<(&Port, &ValidNetwork)> = told.iter().map(|plug| (plug.port.as_ref(), &plug.valid)).collect();
    let seed = seed::seed(instance, &uid.to_string(), user_data, &pairs);
    let directory = host.layout.instance(uid);
    tokio::fs::create_dir_all(directory.directory())
        .await
        .map_err(Error::io("making the Instance's directory"))?;
    let written = tokio::task::spawn_blocking(move || seed.write(&path)).await;
    written.map_err(|stopped| Error::Gone(format!("writing the seed: {stopped}")))??;
    Ok(())
}

/// An interface with the Port and the Network that it is made of.
struct PlugParts {
    network: Arc<Network>,
    valid: ValidNetwork,
    port: Arc<Port>,
}

/// The interface of an Instance in a network.
pub(super) fn interface_in(host: &Host, instance: &Instance, network: &str) -> Result<InterfaceSpec, Error> {
    interface(host, &plug_in(host, instance, network)?)
}

fn plugs(host: &Host, instance: &Instance) -> Result<Vec<PlugParts>, Error> {
    let interfaces = instance.spec.interfaces.iter();
    interfaces
        .map(|interface| plug_in(host, instance, &interface.network))
        .collect()
}

/// What the guest is told to configure: its interfaces, and what is there of their trunks.
fn told(host: &Host, instance: &Instance) -> Result<Vec<PlugParts>, Error> {
    let mut told = plugs(host, instance)?;
    let subs = instance.spec.interfaces.iter().flat_map(sub_ports);
    told.extend(subs.filter_map(|sub| plug_in(host, instance, &sub.interface.network).ok()));
    Ok(told)
}

fn plug_in(host: &Host, instance: &Instance, name: &str) -> Result<PlugParts, Error> {
    let network = host.stores.network_of(instance, name);
    let network = network.ok_or_else(|| Error::Gone(format!("the Network {name} is gone")))?;
    let port = host.stores.port(instance, name);
    let port = port.ok_or_else(|| Error::Gone(format!("the Port in Network {name} is gone")))?;
    let valid = host.networks.valid(&network).map_err(|problems| port::Error::Invalid {
        name: name.into(),
        problems,
    })?;
    Ok(PlugParts { network, valid, port })
}

/// The image whose properties shape the machine: the one that it boots from now.
pub(super) fn machines_image(host: &Host, instance: &Instance, record: &RootRecord) -> Option<Arc<Image>> {
    let image = match record.rescued_with().or(record.image.as_ref()) {
        Some(image) => BootImage::named(host, instance, image),
        None => BootImage::of(host, instance),
    };
    image.known()
}

async fn domain_spec(host: &Host, instance: &Instance, uid: Uuid, files: &InstanceFiles) -> Result<DomainSpec, Error> {
    let facts = host.facts.get(&host.calls).await?;
    let plugs = plugs(host, instance)?;
    let interfaces = plugs.iter().map(|plug| interface(host, plug));
    let mut interfaces = interfaces.collect::<Result<Vec<_>, _>>()?;
    let volumes = volume_names(instance).map(|name| volume(host, instance, name));
    let mut volumes = volumes.collect::<Result<Vec<_>, _>>()?;
    let record = root_record::read(files).await;
    let record = record.map_err(|error| Error::Gone(chain(&error)))?;
    let image = machines_image(host, instance, &record);
    let rescue = match record.rescued_with() {
        Some(_) => Some(root_disk::layer(files.rescue_base()).await?),
        None => None,
    };
    let flavor = root_seen::built(host, instance, &record);
    let flavor = flavor.ok_or_else(|| Error::Gone(format!("the Flavor {} is gone", flavor_name(instance))))?;
    let machine = machine::asked(host, &flavor, image.as_deref()).map_err(Error::Machine)?;
    // Before anything of the host is named in a definition, it is this Instance's. What it has from its beginning was
    // claimed when nothing existed of it here yet; this is for another size. It may go back to the first.
    let keeps = record.resize.as_ref().is_some_and(ResizeRecord::is_open);
    let held = topology::claim(host, instance, uid, &flavor.name, keeps).await?;
    let root = if instance.spec.image.is_some() {
        Root::Overlay(root_disk::layer(files.base()).await?)
    } else {
        Root::Volume(uid_of(volumes.remove(0).as_ref())?)
    };
    let volumes = volumes.iter().map(|volume| uid_of(volume.as_ref()));
    let mut volumes = volumes.collect::<Result<Vec<_>, _>>()?;
    let mut kept = BTreeMap::new();
    // A rescue disk moves all others, there and back.
    let mut moves = record.rescued_with().is_some();
    if let Some(defined) = devices::defined(host, uid).await? {
        // Written anew, it has what it had: all else is plugged in and out one by one.
        moves |= defined.disk(&files.rescue_disk()).is_some();
        interfaces.retain(|interface| defined.has(&DeviceName::Interface(interface.mac)));
        volumes.retain(|volume| {
            let disk = defined.disk(&host.layout.volume(*volume));
            disk.is_some_and(|disk| kept.insert(*volume, disk.target.clone()).is_none())
        });
    }
    if moves {
        kept.clear();
    }
    let targets = virga_core::instance::targets(&volumes, &kept);
    let parts = Parts {
        uid,
        flavor,
        root,
        rescue,
        volumes: targets.into_iter().zip(volumes).collect(),
        interfaces,
        affinity: topology::affinity(held.as_ref(), &topology::spec(host), &facts),
        pci_devices: topology::pci_devices(held.as_ref()).map_err(|error| Error::Gone(error.to_string()))?,
        machine,
        secure_boot: facts.firmware.contains(&Firmware::Uefi { secure_boot: true }),
        domain_type: host.domain_type.on(&facts),
        architecture: facts.cpu.architecture.clone(),
        cache: host.disk_cache,
    };
    Ok(domain_spec::spec(instance, parts, &host.layout))
}

fn interface(host: &Host, plug: &PlugParts) -> Result<InterfaceSpec, Error> {
    let virga_network::Plug { source, alias } = host.networks.plug(&plug.network, &plug.port)?;
    let mac = plug.port.spec.mac.parse();
    Ok(InterfaceSpec {
        mac: mac.map_err(|_| Error::Gone(format!("the Port {} has no usable MAC address", plug.port.name_any())))?,
        source,
        mtu: plug.valid.mtu.map(u32::from),
        alias: Some(alias),
        options: InterfaceOptions::default(),
    })
}

fn volume(host: &Host, instance: &Instance, name: &str) -> Result<Arc<Volume>, Error> {
    let namespace = instance.namespace().unwrap_or_default();
    let found = host.stores.volume(&namespace, name);
    found.ok_or_else(|| Error::Gone(format!("the Volume {name} is gone")))
}

fn uid_of(volume: &Volume) -> Result<Uuid, Error> {
    let uid = volume.uid().and_then(|uid| uid.parse().ok());
    uid.ok_or_else(|| Error::Gone(format!("the Volume {} has no usable uid", volume.name_any())))
}
