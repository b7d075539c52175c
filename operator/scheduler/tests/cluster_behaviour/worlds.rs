//! What the tests start from.

use std::time::Duration;

use virga_scheduler::{Cluster, Host, Profile, ProfileSpec, Request, Resources, Settings};

pub const GIB: u64 = 1 << 30;
pub const START: Duration = Duration::from_secs(1000);
pub const TTL: Duration = Duration::from_secs(30);

pub fn cluster_with(spec: &ProfileSpec) -> Cluster {
    let profile = Profile::resolve(spec).unwrap();
    Cluster::new(Settings {
        profile,
        reservation_ttl: TTL,
        seed: 42,
    })
}

pub fn cluster(hosts: &[&str]) -> Cluster {
    let mut cluster = cluster_with(&ProfileSpec::default());
    for name in hosts {
        cluster.upsert_host(host(name));
    }
    cluster.take_events();
    cluster
}

pub fn size(vcpus: u32, memory_gib: u64, disk_gib: u64) -> Resources {
    Resources {
        vcpus,
        memory_bytes: memory_gib * GIB,
        disk_bytes: disk_gib * GIB,
    }
}

pub fn host(name: &str) -> Host {
    Host::new(name, "az1", "x86_64", size(8, 16, 100))
}

pub fn request(uid: &str) -> Request {
    Request::new(uid, format!("shop/{uid}"), size(1, 1, 10))
}

pub fn chosen(cluster: &mut Cluster, request: &Request) -> String {
    cluster.schedule(request, START).unwrap().host
}
