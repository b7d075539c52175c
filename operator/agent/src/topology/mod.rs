//! Which CPUs, pages and devices of the host does each Instance have?
//!
//! The scheduler chooses a host where an Instance fits, by what it knows; which of the host's CPUs it then has is
//! decided here, by the same rules and on what the host has now. The word of the host is the last.

mod affinity;
mod claims;
mod missing;
mod offered;
mod record;

use kube::ResourceExt;
use uuid::Uuid;
use virga_core::{
    flavor::{Shape, extra_specs},
    instance::{flavor_name, told},
    problem::Problems,
};
use virga_crds::{HypervisorSpec, Image, Instance, InstanceTopology, Resources};
use virga_hypervisor::HostFacts;
use virga_runtime::class::{Class, Classify};
use virga_scheduler::topology::{CpuSet, Limits, Misfit};

pub use affinity::{affinity, pci_devices};
pub use claims::{Topologies, Wish};
pub use missing::missing;
pub use offered::{cells, devices, offered};

use crate::{host::Host, instance::BootImage};

/// Why an Instance does not have what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host can't give it.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// Flavor and image together ask for what can't be.
    #[error("{0}")]
    Shape(Problems),
    /// The host can't be asked what it has.
    #[error(transparent)]
    Facts(#[from] virga_hypervisor::Error),
    /// What is noted beside the disks can't be read or written.
    #[error(transparent)]
    Record(#[from] record::Error),
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            // What others have may become free.
            Self::Misfit(_) | Self::Facts(_) | Self::Record(_) => Class::Transient,
            Self::Shape(_) => Class::Invalid,
        }
    }
}

/// The CPUs that the host runs with now.
fn online(facts: &HostFacts) -> CpuSet {
    let cpus = facts.cells.iter().flat_map(|cell| &cell.cpus);
    cpus.map(|cpu| cpu.id).collect()
}

/// What an Instance has of the host with this Flavor; claimed now if it has nothing yet and asks for something. `keeps`:
/// what it has with another one is its own still.
pub async fn claim(
    host: &Host,
    instance: &Instance,
    uid: Uuid,
    flavor: &str,
    keeps: bool,
) -> Result<Option<InstanceTopology>, Error> {
    let note = host.topologies.note(uid).await?;
    if let Some(note) = note.as_ref().filter(|note| note.flavor == flavor) {
        return Ok(note.told().cloned());
    }
    // An image that is not known yet may ask for more. Nothing is made before it is.
    let built = instance.status.as_ref().is_some_and(|status| status.flavor.is_some());
    if !built && matches!(BootImage::of(host, instance), BootImage::Unknown) {
        return Ok(None);
    }
    let image = BootImage::of(host, instance).known();
    let shape = shape_of(host, flavor, image.as_deref()).map_err(Error::Shape)?;
    if shape == Shape::default() && note.is_none() {
        return Ok(None);
    }
    let wish = wish(host, flavor, shape).await?;
    let pinning = host.topologies.claim(uid, wish, keeps).await?;
    let held = told(&pinning);
    if let Some(held) = &held {
        let cells: Vec<u32> = held.cells.iter().map(|cell| cell.host_cell).collect();
        let devices = held.pci_devices.len();
        tracing::info!(namespace = instance.namespace(), name = instance.name_any(), %uid, ?cells, devices, "claimed");
    }
    Ok(held)
}

/// Whether an Instance could have what another Flavor asks for of this host's CPUs, pages and devices.
pub async fn has_room(host: &Host, uid: Uuid, flavor: &str, shape: Shape) -> Result<(), Error> {
    let wish = wish(host, flavor, shape).await?;
    host.topologies.has_room(uid, wish).await
}

async fn wish(host: &Host, flavor: &str, shape: Shape) -> Result<Wish, Error> {
    // Pages and devices come and go: what was known a while ago is no ground to claim on.
    let facts = host.facts.refresh(&host.calls).await?;
    let spec = spec(host);
    let ratios = crate::room::ratios(&spec, host.ratios);
    Ok(Wish {
        flavor: flavor.to_owned(),
        host: offered(&facts, &spec).unwrap_or_default(),
        limits: Limits {
            vcpus: ratios.vcpus,
            memory: ratios.memory,
        },
        shape,
    })
}

/// What an Instance asks of the host's CPUs, cells and devices; nothing while its Flavor is not known.
pub fn shape(host: &Host, instance: &Instance) -> Result<Shape, Problems> {
    let image = BootImage::of(host, instance).known();
    shape_of(host, flavor_name(instance), image.as_deref())
}

/// The same, with this Flavor and this image.
pub fn shape_of(host: &Host, flavor: &str, image: Option<&Image>) -> Result<Shape, Problems> {
    let flavor = host.stores.flavors.find(|found| found.name_any() == flavor);
    let Some(flavor) = flavor else {
        return Ok(Shape::default());
    };
    let size = Resources {
        vcpus: flavor.spec.vcpus.into(),
        memory: flavor.spec.memory,
        disk: flavor.spec.disk,
    };
    extra_specs(&flavor.spec)?.shape(size, image.map(|image| &image.spec.properties))
}

/// What operators say of this host.
pub fn spec(host: &Host) -> HypervisorSpec {
    let hypervisor = host.stores.hypervisor.state().into_iter().next();
    hypervisor.map(|hypervisor| hypervisor.spec.clone()).unwrap_or_default()
}
