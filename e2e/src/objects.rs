//! The objects that tests make: small, right, and changed where a test needs it.

use virga_crds::{
    Bytes, FlavorSpec, Image, ImageRef, ImageSource, ImageSpec, ImageVisibility, Instance, InstanceSpec, Interface,
    Network, NetworkSpec, ServerGroup, ServerGroupPolicy, ServerGroupSpec, Subnet, Volume, VolumeSpec,
};

/// The file in the nodes' store that guests boot from.
pub const GUEST: &str = "guest.qcow2";

/// One CPU, enough memory for the guest to boot, a disk that it fits on.
pub fn tiny() -> FlavorSpec {
    FlavorSpec {
        description: String::new(),
        vcpus: 1,
        memory: Bytes::mib(192),
        disk: Bytes::mib(256),
        ..FlavorSpec::default()
    }
}

/// An Instance of this flavor, from Image `guest`, without an interface.
pub fn instance(name: &str, flavor: &str) -> Instance {
    let spec = InstanceSpec {
        flavor: flavor.into(),
        image: Some(ImageRef {
            name: "guest".into(),
            namespace: None,
        }),
        ..InstanceSpec::default()
    };
    Instance::new(name, spec)
}

/// The same, plugged into this network.
pub fn plugged(mut instance: Instance, network: &str) -> Instance {
    instance.spec.interfaces.push(Interface {
        network: network.into(),
        ..Interface::default()
    });
    instance
}

/// The Image `guest`.
pub fn guest() -> Image {
    image("guest", GUEST)
}

/// An Image of a file in the nodes' store.
pub fn image(name: &str, path: &str) -> Image {
    let spec = ImageSpec {
        source: ImageSource {
            instance: None,
            path: Some(path.into()),
            http: None,
        },
        disk_format: None,
        visibility: ImageVisibility::Private,
        min_disk: Bytes::ZERO,
        min_memory: Bytes::ZERO,
        properties: std::collections::BTreeMap::new(),
    };
    Image::new(name, spec)
}

/// A Network of one subnet.
pub fn network(name: &str, cidr: &str) -> Network {
    let spec = NetworkSpec {
        subnets: vec![Subnet {
            name: "v4".into(),
            cidr: cidr.into(),
            ..Subnet::default()
        }],
        ..NetworkSpec::default()
    };
    Network::new(name, spec)
}

/// A blank Volume.
pub fn volume(name: &str, size: Bytes) -> Volume {
    let spec = VolumeSpec {
        size,
        ..VolumeSpec::default()
    };
    Volume::new(name, spec)
}

/// A ServerGroup.
pub fn server_group(name: &str, policy: ServerGroupPolicy) -> ServerGroup {
    ServerGroup::new(name, ServerGroupSpec { policy, rules: None })
}
