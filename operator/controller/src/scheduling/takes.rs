//! What does an Instance take of its host? Its Flavor's size, unless extra specs say otherwise, and its volumes that are
//! on no node yet. Pure over what the stores hold.

use std::{collections::BTreeMap, sync::Arc};

use kube::ResourceExt;
use virga_core::{
    flavor::{self, ExtraSpecs, Shape},
    instance::{Counted, counted, pinning},
};
use virga_crds::{Bytes, Flavor, Image, Instance, Volume};
use virga_scheduler::{Claim, ImageFacts, Profile, Resources, Uid, topology::Pinning};

use super::volumes::volumes;
use crate::stores::Stores;

/// What is taken of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Processors, memory and disk.
    pub resources: Resources,
    /// Units of the operators' own resource classes, and dedicated CPUs.
    pub units: BTreeMap<String, u64>,
    /// Cells, pages and devices.
    pub shape: Shape,
}

/// All that counts of an Instance on the host that it is bound to.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// What it takes.
    pub taken: Taken,
    /// Its ServerGroup's UID.
    group: Option<Uid>,
    /// The image that it was built from, if the profile asks what runs on a host.
    image: Option<Arc<ImageFacts>>,
    pinning: Option<Pinning>,
}

impl Held {
    /// What this Instance holds, by what the stores say.
    pub fn of(instance: &Instance, stores: &Stores, profile: &Profile) -> Self {
        let namespace = instance.namespace().unwrap_or_default();
        let group = instance.spec.server_group.as_ref();
        let group = group.and_then(|name| stores.server_group(&namespace, name)?.uid());
        let image = profile.weighs_images().then(|| image(instance, &namespace, stores));
        Self {
            taken: taken(instance, stores),
            group: group.map(Uid::from),
            image: image.flatten().as_deref().map(facts),
            pinning: held(instance),
        }
    }

    /// What it holds on a host that it moves to: room for the size that it is asked to get, too, if it has not got it yet.
    pub(super) fn moving(instance: &Instance, stores: &Stores, profile: &Profile) -> Self {
        let mut held = Self::of(instance, stores, profile);
        let namespace = instance.namespace().unwrap_or_default();
        if let Some(flavor) = stores.flavor(&instance.spec.flavor) {
            let volumes = volumes(instance, &namespace, stores, &mut Vec::new());
            let image = image(instance, &namespace, stores);
            let asked = of_flavor(instance, &flavor, &extra_specs(&flavor), image.as_deref(), &volumes);
            held.taken = largest(held.taken, asked);
        }
        held
    }

    /// The same as a claim on this host.
    pub fn claim<'a>(&'a self, host: &'a str) -> Claim<'a> {
        let Taken {
            resources,
            units,
            shape,
        } = &self.taken;
        Claim {
            units: Some(units),
            group: self.group.as_ref(),
            image: self.image.as_ref(),
            topology: shape.topology.as_ref(),
            devices: &shape.devices,
            pinning: self.pinning.as_ref(),
            ..Claim::new(host, resources)
        }
    }
}

/// What the scheduler is told of an Image.
pub(super) fn facts(image: &Image) -> Arc<ImageFacts> {
    Arc::new(ImageFacts {
        uid: image.uid().unwrap_or_default(),
        properties: image.spec.properties.clone(),
    })
}

fn image(instance: &Instance, namespace: &str, stores: &Stores) -> Option<Arc<Image>> {
    // Until it is rebuilt it is what it was made from.
    let made_from = instance.status.as_ref().and_then(|status| status.image.as_ref());
    let image = made_from.or(instance.spec.image.as_ref())?;
    stores.image(image.namespace.as_deref().unwrap_or(namespace), &image.name)
}

/// What an Instance takes of the host that it is bound to: as built, else as its Flavor says; of one that is resized the
/// larger of both sizes, until the resize is final or taken back.
///
/// Volumes that are not bound to a node yet count with the Instance; afterwards they count by themselves, because they
/// stay when the Instance goes.
pub(super) fn taken(instance: &Instance, stores: &Stores) -> Taken {
    let namespace = instance.namespace().unwrap_or_default();
    let volumes = volumes(instance, &namespace, stores, &mut Vec::new());
    let image = image(instance, &namespace, stores);
    let named = |name: &str| {
        let flavor = stores.flavor(name)?;
        let extra = extra_specs(&flavor);
        Some(of_flavor(instance, &flavor, &extra, image.as_deref(), &volumes))
    };
    let Counted { built, granted } = counted(instance);
    let built = built.into_iter().map(|built| {
        let size = virga_crds::Resources {
            vcpus: built.vcpus.into(),
            memory: built.memory,
            disk: root_disk(instance, built.disk, None),
        };
        // What a Flavor asks for never changes, so what it says now was said when the Instance was placed.
        let extra = stores.flavor(&built.name).map(|flavor| extra_specs(&flavor));
        sum(size, &extra.unwrap_or_default(), image.as_deref(), &volumes)
    });
    let sizes = built.chain(granted.and_then(|name| named(&name)));
    // The finalizer keeps a used Flavor, so one that is not there is of a cluster that was restored without it.
    sizes
        .reduce(largest)
        .or_else(|| named(&instance.spec.flavor))
        .unwrap_or_default()
}

fn extra_specs(flavor: &Flavor) -> ExtraSpecs {
    flavor::extra_specs(&flavor.spec).unwrap_or_default()
}

/// Of each amount the larger one.
pub(super) fn larger(a: Resources, b: Resources) -> Resources {
    Resources {
        vcpus: a.vcpus.max(b.vcpus),
        memory_bytes: a.memory_bytes.max(b.memory_bytes),
        disk_bytes: a.disk_bytes.max(b.disk_bytes),
    }
}

/// The same of all that is taken. Of CPUs, pages and devices of its own the first one's: of another size's its host has
/// the last word.
pub(super) fn largest(mut first: Taken, other: Taken) -> Taken {
    first.resources = larger(first.resources, other.resources);
    for (class, units) in other.units {
        let most = first.units.entry(class).or_default();
        *most = units.max(*most);
    }
    first
}

/// Which CPUs, pages and devices of its host it has, as its host says; `None` while it has not said.
fn held(instance: &Instance) -> Option<Pinning> {
    let status = instance.status.as_ref()?;
    // What it had on another host is not what it has on this one.
    let here = status.host.is_some() && status.host == instance.spec.node_name;
    status.topology.as_ref().filter(|_| here).map(pinning)
}

/// What an Instance of this Flavor takes.
pub(super) fn of_flavor(
    instance: &Instance,
    flavor: &Flavor,
    extra: &ExtraSpecs,
    image: Option<&Image>,
    volumes: &[Arc<Volume>],
) -> Taken {
    let spec = &flavor.spec;
    let size = virga_crds::Resources {
        vcpus: spec.vcpus.into(),
        memory: spec.memory,
        disk: root_disk(instance, spec.disk, image),
    };
    sum(size, extra, image, volumes)
}

/// A bound Volume's share of its node's disk.
pub fn volume_takes(volume: &Volume) -> Resources {
    Resources {
        disk_bytes: volume.spec.size.0,
        ..Resources::default()
    }
}

/// A boot volume is the root disk, so the Instance itself takes none (Nova counts 0 as well).
fn root_disk(instance: &Instance, disk: Bytes, image: Option<&Image>) -> Bytes {
    if instance.spec.boot_volume.is_some() {
        return Bytes::ZERO;
    }
    let of_image = || image.and_then(|image| image.status.as_ref()?.virtual_size);
    if disk == Bytes::ZERO {
        of_image().unwrap_or_default()
    } else {
        disk
    }
}

fn sum(size: virga_crds::Resources, extra: &ExtraSpecs, image: Option<&Image>, volumes: &[Arc<Volume>]) -> Taken {
    let unbound = volumes.iter().filter(|volume| volume.spec.node_name.is_none());
    let volumes: u64 = unbound.map(|volume| volume.spec.size.0).fold(0, u64::saturating_add);
    // An image that contradicts its Flavor is told where the Instance is asked for: it is placed by the Flavor alone.
    let shape = extra
        .shape(size, image.map(|image| &image.spec.properties))
        .unwrap_or_default();
    let counted = extra.counted(size, &shape);
    Taken {
        resources: Resources {
            vcpus: counted.vcpus,
            memory_bytes: counted.memory.0,
            disk_bytes: counted.disk.0.saturating_add(volumes),
        },
        units: extra.units(&shape),
        shape,
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector::store::Writer, watcher::Event};
    use virga_scheduler::{ProfileSpec, WeigherSpec};

    use super::*;
    use crate::{fixtures, stores::Watches};

    fn of(extra: &[(&str, &str)], change: impl FnOnce(&mut Instance)) -> Taken {
        let mut flavor = fixtures::flavor("m1.small");
        let pairs = extra
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        flavor.spec.extra_specs = pairs.collect();
        let mut instance = fixtures::instance("web");
        change(&mut instance);
        let extra = flavor::extra_specs(&flavor.spec).unwrap();
        of_flavor(&instance, &flavor, &extra, None, &[Arc::new(fixtures::volume("data"))])
    }

    #[test]
    fn the_flavor_s_size_and_volumes_that_are_nowhere_yet_are_taken() {
        let taken = of(&[], |_| {});
        let resources = Resources {
            vcpus: 1,
            memory_bytes: 1 << 30,
            disk_bytes: 6 << 30,
        };
        assert_eq!(
            taken,
            Taken {
                resources,
                ..Taken::default()
            }
        );
        let booted = of(&[], |instance| instance.spec.boot_volume = Some("data".into()));
        assert_eq!(booted.resources.disk_bytes, 1 << 30, "the boot volume is the root disk");
    }

    #[test]
    fn extra_specs_stand_for_the_flavor_s_own_amounts() {
        let taken = of(
            &[
                ("resources:VCPU", "0"),
                ("resources:MEMORY_MB", "512"),
                ("resources:DISK_GB", "2"),
                ("resources:CUSTOM_LICENCE", "3"),
                ("resources:CUSTOM_NONE", "0"),
            ],
            |_| {},
        );
        let resources = Resources {
            vcpus: 0,
            memory_bytes: 512 << 20,
            disk_bytes: 3 << 30,
        };
        let units = BTreeMap::from([("CUSTOM_LICENCE".to_owned(), 3)]);
        let taken_so = Taken {
            resources,
            units,
            shape: Shape::default(),
        };
        assert_eq!(taken, taken_so);
    }

    #[tokio::test]
    async fn the_image_of_what_runs_is_told_to_a_profile_that_weighs_images() {
        virga_runtime::tls::install_crypto_provider();
        let mut images = Writer::default();
        let mut debian = fixtures::image("debian");
        debian.spec.properties = BTreeMap::from([("os_distro".into(), "debian".into())]);
        images.apply_watcher_event(&Event::Apply(debian));
        let stores = Stores {
            images: images.as_reader(),
            ..Watches::new(&fixtures::api().client_as("virga"), "virga-system").stores()
        };
        let distro = |multiplier| {
            let weigher = WeigherSpec {
                name: "ImagePropertiesWeigher".into(),
                multiplier,
            };
            let spec = ProfileSpec {
                weighers: vec![weigher],
                ..ProfileSpec::default()
            };
            let held = Held::of(&fixtures::instance("web"), &stores, &Profile::resolve(&spec).unwrap());
            let image = held.claim("node-1").image.cloned();
            image.map(|image| image.properties["os_distro"].clone())
        };
        assert_eq!(distro(1.0).as_deref(), Some("debian"));
        assert_eq!(distro(0.0), None);
    }

    #[test]
    fn of_two_sizes_the_larger_amount_of_each_counts() {
        let (one, other) = (
            of(&[("resources:CUSTOM_LICENCE", "3")], |_| {}),
            of(&[("resources:VCPU", "4")], |_| {}),
        );
        for taken in [largest(one.clone(), other.clone()), largest(other, one)] {
            assert_eq!((taken.resources.vcpus, taken.units["CUSTOM_LICENCE"]), (4, 3));
        }
    }

    #[test]
    fn dedicated_cpus_are_counted_apart_from_shared_ones() {
        let taken = of(&[("hw:cpu_policy", "dedicated")], |_| {});
        assert_eq!((taken.resources.vcpus, taken.units["PCPU"]), (0, 1));
        assert!(taken.shape.topology.is_some());
    }
}
