//! Carrying effects out. Each is idempotent, bounded in time, and says what went wrong in words for the user.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use kube::ResourceExt;
use tokio::time::Instant;
use uuid::Uuid;
use virga_core::{
    instance::{Effect, Failure},
    network::ValidNetwork,
};
use virga_crds::{BuiltFlavor, Bytes, Image, Instance, Network, Port, Volume, conditions::Reason, finalizers};
use virga_hypervisor::{DiskFormat, DiskLayer, DomainSpec, Hypervisor, InterfaceSpec, Kind};
use virga_images::{Format, disk};
use virga_runtime::class::{Class, Classify, chain};

use super::{
    domain::{self, Machine, Parts, Root},
    fetch, power_record, seed,
};
use crate::{
    host::{Host, Moment},
    layout::InstanceFiles,
    port, userdata,
};

/// Why an effect was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that the plan had seen is gone again.
    #[error("{0}")]
    Gone(String),
    /// libvirt failed.
    #[error(transparent)]
    Hypervisor(#[from] virga_hypervisor::Error),
    /// A disk could not be made.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The seed could not be made.
    #[error(transparent)]
    Seed(#[from] virga_images::seed::Error),
    /// User data could not be had.
    #[error(transparent)]
    UserData(#[from] userdata::Error),
    /// A network could not be brought up.
    #[error(transparent)]
    Network(#[from] port::Error),
    /// The API could not be written.
    #[error(transparent)]
    Api(#[from] virga_runtime::apply::Error),
    /// The node's file system said no.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why.
        source: io::Error,
    },
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::Hypervisor(error) if error.is_transient() => Class::Transient,
            // What is in the way may go: it is tried again.
            Self::Hypervisor(error) => match error.kind() {
                Kind::Invalid | Kind::Unsupported => Class::Bug,
                _ => Class::Transient,
            },
            Self::Seed(virga_images::seed::Error::Invalid { .. }) | Self::UserData(userdata::Error::TooLarge) => {
                Class::Invalid
            }
            Self::Network(error) if error.class() == Class::Bug => Class::Bug,
            Self::Api(error) => error.class(),
            Self::Gone(_) | Self::Network(_) | Self::Disk(_) | Self::Seed(_) | Self::UserData(_) | Self::Io { .. } => {
                Class::Transient
            }
        }
    }
}

impl Error {
    /// For the Instance's conditions.
    pub fn failure(&self) -> Failure {
        let (reason, stuck) = match self {
            Self::Hypervisor(error) | Self::Network(port::Error::Backend(virga_network::Error::Hypervisor(error))) => {
                match error.kind() {
                    Kind::Unavailable | Kind::Timeout | Kind::Busy => (Reason::LibvirtUnavailable, false),
                    _ => (Reason::HypervisorError, false),
                }
            }
            Self::Disk(error) if is_full(error) => (Reason::PoolFull, false),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => (Reason::PoolFull, false),
            Self::Gone(_) | Self::Api(_) => (Reason::Building, false),
            Self::Seed(virga_images::seed::Error::Invalid { .. }) | Self::UserData(userdata::Error::TooLarge) => {
                (Reason::Invalid, true)
            }
            Self::Disk(_) | Self::Io { .. } | Self::Seed(_) => (Reason::HypervisorError, false),
            Self::UserData(_) => (Reason::UserDataNotFound, false),
            Self::Network(port::Error::NotFound(_)) => (Reason::NetworkNotFound, false),
            Self::Network(_) => (Reason::NetworkNotReady, false),
        };
        Failure {
            reason,
            message: chain(self),
            stuck,
        }
    }
}

fn is_full(error: &disk::Error) -> bool {
    match error {
        disk::Error::Failed { stderr, .. } => stderr.contains("No space left"),
        disk::Error::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
        _ => false,
    }
}

fn io_error(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let doing = doing.into();
    move |source| Error::Io { doing, source }
}

/// Carries one effect out, and counts it.
pub async fn carry_out(host: &Host, instance: &Instance, uid: Uuid, effect: &Effect) -> Result<(), Error> {
    host.reach(Moment::Before, effect.name()).await;
    let began = Instant::now();
    let result = act(host, instance, uid, effect).await;
    host.metrics.effect(effect.name(), result.is_ok(), began.elapsed());
    if result.is_ok() {
        tracing::info!(effect = effect.name(), took_ms = began.elapsed().as_millis(), "done");
    }
    host.reach(Moment::After, effect.name()).await;
    result
}

async fn act(host: &Host, instance: &Instance, uid: Uuid, effect: &Effect) -> Result<(), Error> {
    let files = host.layout.instance(uid);
    match effect {
        Effect::PullImage { uid } => {
            let image = host.images.find(uid);
            host.images
                .pull(image.ok_or_else(|| Error::Gone("the Image is gone".into()))?);
        }
        Effect::CreateRootDisk { uid, size } => create_root_disk(host, &files, uid, *size).await?,
        Effect::WriteSeed => write_seed(host, instance, uid, &files).await?,
        Effect::EnsureNetwork { network } => {
            let namespace = instance.namespace().unwrap_or_default();
            host.networks.ensure(&namespace, network).await?;
        }
        Effect::Define => {
            let spec = domain_spec(host, instance, uid, &files).await?;
            host.change(uid, move |hypervisor| define(hypervisor, spec)).await?;
        }
        Effect::RecordPower(record) => power_record::write(&files, *record)
            .await
            .map_err(io_error("noting a start or stop"))?,
        Effect::Start => host.change(uid, move |hypervisor| hypervisor.start(uid)).await?,
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
        Effect::RemoveFinalizer => {
            host.claims.release(&uid.to_string());
            host.writer.remove_finalizer(instance, finalizers::AGENT).await?;
        }
    }
    Ok(())
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

/// Removes a directory with all that is in it; one that is gone already is removed.
pub async fn remove_directory(directory: &Path) -> Result<(), Error> {
    match tokio::fs::remove_dir_all(directory).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(io_error(format!("removing {}", directory.display()))),
    }
}

async fn create_root_disk(host: &Host, files: &InstanceFiles, image: &str, size: Bytes) -> Result<(), Error> {
    let entry = host.images.entry_of(image);
    let entry = entry.ok_or_else(|| Error::Gone("the image is no longer in the cache".into()))?;
    tokio::fs::create_dir_all(files.directory())
        .await
        .map_err(io_error("making the Instance's directory"))?;
    // First the link, so that the image is pinned before a disk lies over it.
    let (link, target) = (files.base(), entry.path.clone());
    blocking("linking the base image", move || replace_link(&link, &target)).await?;
    let format = entry.inspection.format;
    host.disks
        .create_overlay(&entry.path, format, &files.root_disk(), size.0.next_multiple_of(512))
        .await?;
    Ok(())
}

fn replace_link(link: &Path, target: &Path) -> io::Result<()> {
    match std::fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(target, link)
}

async fn blocking<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let result = tokio::task::spawn_blocking(work).await;
    result
        .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
        .map_err(io_error(doing))
}

async fn write_seed(host: &Host, instance: &Instance, uid: Uuid, files: &InstanceFiles) -> Result<(), Error> {
    let asked = instance.spec.user_data.as_ref();
    let user_data = match asked.map(|data| data.inline.as_ref()) {
        None => None,
        Some(Some(text)) => Some(text.clone().into_bytes()),
        Some(None) => {
            let namespace = instance.namespace().unwrap_or_default();
            Some(host.user_data.fetch(&namespace, &instance.name_any()).await?)
        }
    };
    let plugs = plugs(host, instance)?;
    let pairs: Vec<(&Port, &ValidNetwork)> = plugs.iter().map(|plug| (plug.port.as_ref(), &plug.valid)).collect();
    let seed = seed::seed(instance, &uid.to_string(), user_data, &pairs);
    tokio::fs::create_dir_all(files.directory())
        .await
        .map_err(io_error("making the Instance's directory"))?;
    let path = files.seed();
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

fn plugs(host: &Host, instance: &Instance) -> Result<Vec<PlugParts>, Error> {
    let namespace = instance.namespace();
    let find = |name: &str| {
        let is_it = |network: &Network| network.name_any() == name && network.namespace() == namespace;
        let network = host.stores.networks.find(is_it);
        let network = network.ok_or_else(|| Error::Gone(format!("the Network {name} is gone")))?;
        let port = fetch::port(host, instance, name);
        let port = port.ok_or_else(|| Error::Gone(format!("the Port in Network {name} is gone")))?;
        let valid = virga_core::network::validate(&network.spec).map_err(|problems| port::Error::Invalid {
            name: name.into(),
            problems,
        })?;
        Ok(PlugParts { network, valid, port })
    };
    instance
        .spec
        .interfaces
        .iter()
        .map(|interface| find(&interface.network))
        .collect()
}

async fn domain_spec(host: &Host, instance: &Instance, uid: Uuid, files: &InstanceFiles) -> Result<DomainSpec, Error> {
    let facts = host.facts.get(&host.calls).await?;
    let plugs = plugs(host, instance)?;
    let interfaces = plugs.iter().map(|plug| interface(host, plug));
    let interfaces = interfaces.collect::<Result<Vec<_>, _>>()?;
    let names: Vec<&str> = fetch::volume_names(instance).collect();
    let volumes = names.iter().map(|name| volume(host, instance, name));
    let mut volumes = volumes.collect::<Result<Vec<_>, _>>()?;
    let image = boot_image(host, instance);
    let root = if instance.spec.image.is_some() {
        let link = files.base();
        let base = blocking("reading the link to the base image", move || std::fs::read_link(link)).await?;
        Root::Overlay(layer(base)?)
    } else {
        Root::Volume(uid_of(volumes.remove(0).as_ref())?)
    };
    let volumes = volumes.iter().map(|volume| uid_of(volume.as_ref()));
    let parts = Parts {
        uid,
        flavor: built(host, instance)?,
        root,
        volumes: volumes.collect::<Result<_, _>>()?,
        interfaces,
        machine: image.map_or_else(Machine::default, |image| Machine::new(&image.spec.properties)),
        domain_type: host.domain_type.on(&facts),
        architecture: facts.cpu.architecture.clone(),
        cache: host.disk_cache,
    };
    Ok(domain::spec(instance, parts, &host.layout))
}

fn interface(host: &Host, plug: &PlugParts) -> Result<InterfaceSpec, Error> {
    let virga_network::Plug { source, alias } = host.networks.plug(&plug.network, &plug.port)?;
    let mac = plug.port.spec.mac.parse();
    Ok(InterfaceSpec {
        mac: mac.map_err(|_| Error::Gone(format!("the Port {} has no usable MAC address", plug.port.name_any())))?,
        source,
        mtu: plug.valid.mtu.map(u32::from),
        alias: Some(alias),
    })
}

fn built(host: &Host, instance: &Instance) -> Result<BuiltFlavor, Error> {
    let built = instance.status.as_ref().and_then(|status| status.flavor.clone());
    built
        .or_else(|| fetch::named_flavor(host, &instance.spec.flavor))
        .ok_or_else(|| Error::Gone(format!("the Flavor {} is gone", instance.spec.flavor)))
}

/// The Image whose properties shape the machine: its own, or its boot volume's.
fn boot_image(host: &Host, instance: &Instance) -> Option<Arc<Image>> {
    let own = instance.namespace()?;
    let named = match (&instance.spec.image, &instance.spec.boot_volume) {
        (Some(image), _) => image.clone(),
        (None, Some(boot)) => volume(host, instance, boot).ok()?.spec.source.clone()?.image,
        (None, None) => return None,
    };
    let namespace = named.namespace.unwrap_or(own);
    host.stores
        .images
        .find(|image| image.name_any() == named.name && image.namespace().as_deref() == Some(&namespace))
}

fn volume(host: &Host, instance: &Instance, name: &str) -> Result<Arc<Volume>, Error> {
    let namespace = instance.namespace();
    let found = host
        .stores
        .volumes
        .find(|volume| volume.name_any() == name && volume.namespace() == namespace);
    found.ok_or_else(|| Error::Gone(format!("the Volume {name} is gone")))
}

fn uid_of(volume: &Volume) -> Result<Uuid, Error> {
    let uid = volume.uid().and_then(|uid| uid.parse().ok());
    uid.ok_or_else(|| Error::Gone(format!("the Volume {} has no usable uid", volume.name_any())))
}

/// The layer that a link leads to. Its format is in its name, which we gave: nothing is guessed from its bytes.
fn layer(path: PathBuf) -> Result<DiskLayer, Error> {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    let format = match extension.parse() {
        Ok(Format::Qcow2) => DiskFormat::Qcow2,
        Ok(Format::Raw) => DiskFormat::Raw,
        Err(_) => return Err(Error::Gone(format!("{} is not an image of the cache", path.display()))),
    };
    Ok(DiskLayer { path, format })
}
