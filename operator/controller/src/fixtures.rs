//! What the tests start from, those of the modules and those of the whole. Behind the feature `testing`.

use std::collections::BTreeMap;

use kube::ResourceExt;
use virga_core::condition::Conditions;
use virga_crds::{
    AddressGroup, Bytes, Cpu, Flavor, FlavorSpec, FloatingIP, HostAggregate, Hypervisor, HypervisorSpec,
    HypervisorStatus, Image, ImageRef, ImageSource, ImageSpec, ImageVisibility, Instance, InstanceSpec, LoadBalancer,
    Migration, Network, Port, Project, Resources, Router, SecurityGroup, ServerGroup, ServerGroupPolicy,
    ServerGroupSpec, Volume, VolumeSpec,
    conditions::{Reason, types},
};
use virga_testkit::FakeApi;

/// The namespace of the tests' users.
pub const NAMESPACE: &str = "shop";

/// A server with all of our kinds.
pub fn api() -> FakeApi {
    FakeApi::new()
        .with_crd::<AddressGroup>()
        .with_crd::<Flavor>()
        .with_crd::<FloatingIP>()
        .with_crd::<HostAggregate>()
        .with_crd::<Hypervisor>()
        .with_crd::<Image>()
        .with_crd::<Instance>()
        .with_crd::<LoadBalancer>()
        .with_crd::<Migration>()
        .with_crd::<Network>()
        .with_crd::<Port>()
        .with_crd::<Project>()
        .with_crd::<Router>()
        .with_crd::<SecurityGroup>()
        .with_crd::<ServerGroup>()
        .with_crd::<Volume>()
}

/// Puts an object into [`NAMESPACE`].
pub fn in_shop<K: ResourceExt>(mut object: K) -> K {
    object.meta_mut().namespace = Some(NAMESPACE.into());
    object
}

/// A Hypervisor that is ready: 8 threads, 16 GiB of memory and 512 MiB that are kept, 100 GiB of disk.
pub fn hypervisor(name: &str) -> Hypervisor {
    let mut hypervisor = Hypervisor::new(name, HypervisorSpec::default());
    let mut conditions = Conditions::new(&[], Some(1), jiff::Timestamp::UNIX_EPOCH);
    conditions.set(types::READY, true, Reason::HeartbeatSeen, "");
    hypervisor.status = Some(HypervisorStatus {
        capacity: Some(Resources {
            vcpus: 8,
            memory: Bytes::mib(16 * 1024 + 512),
            disk: Bytes::gib(100),
        }),
        cpu: Some(Cpu {
            architecture: "x86_64".into(),
            ..Cpu::default()
        }),
        conditions: conditions.into_vec(),
        ..HypervisorStatus::default()
    });
    hypervisor
}

/// One core, 1 GiB of memory, 5 GiB of disk.
pub fn flavor(name: &str) -> Flavor {
    let spec = FlavorSpec {
        vcpus: 1,
        memory: Bytes::gib(1),
        disk: Bytes::gib(5),
        ..FlavorSpec::default()
    };
    Flavor::new(name, spec)
}

/// A private Image from the store.
pub fn image(name: &str) -> Image {
    let spec = ImageSpec {
        source: ImageSource {
            instance: None,
            http: None,
            path: Some("debian.qcow2".into()),
        },
        disk_format: None,
        visibility: ImageVisibility::Private,
        min_disk: Bytes::ZERO,
        min_memory: Bytes::ZERO,
        properties: BTreeMap::new(),
    };
    in_shop(Image::new(name, spec))
}

/// An Instance with flavor `m1.small` and image `debian`.
pub fn instance(name: &str) -> Instance {
    let spec = InstanceSpec {
        flavor: "m1.small".into(),
        image: Some(ImageRef {
            name: "debian".into(),
            namespace: None,
        }),
        ..InstanceSpec::default()
    };
    in_shop(Instance::new(name, spec))
}

/// A group whose members are on different hosts.
pub fn server_group(name: &str) -> ServerGroup {
    let spec = ServerGroupSpec {
        policy: ServerGroupPolicy::AntiAffinity,
        rules: None,
    };
    in_shop(ServerGroup::new(name, spec))
}

/// An empty Volume of 1 GiB.
pub fn volume(name: &str) -> Volume {
    let spec = VolumeSpec {
        size: Bytes::gib(1),
        ..VolumeSpec::default()
    };
    in_shop(Volume::new(name, spec))
}
