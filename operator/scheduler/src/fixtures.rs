//! What the unit tests of filters and weighers start from.

use std::sync::Arc;
use std::time::Duration;

use crate::topology::{HostCell, HostTopology, Pages, PciDevice};
use crate::{
    Aggregate, Cluster, Demands, Group, Host, Options, Policy, Profile, ProfileSpec, Request, Resources, Settings, Uid,
    WeigherSpec,
};

pub(crate) const GIB: u64 = 1 << 30;

/// `node-1` in `az1`: 8 threads, 16 GiB of memory, 100 GiB of disk.
pub(crate) fn host() -> Host {
    named("node-1")
}

pub(crate) fn named(name: &str) -> Host {
    Host::new(
        name,
        "az1",
        "x86_64",
        Resources {
            vcpus: 8,
            memory_bytes: 16 * GIB,
            disk_bytes: 100 * GIB,
        },
    )
}

/// `node-1` with two cells of 2 shared CPUs, 4 dedicated ones in pairs of threads and 8 GiB, a quarter of that in pages of
/// 2 MiB; a `gpu` in each of them, and a `nic` in none that is known.
pub(crate) fn celled() -> Host {
    let cell = |id: u32| HostCell {
        id,
        socket: id,
        shared: (id * 6..id * 6 + 2).collect(),
        dedicated: (id * 6 + 2..id * 6 + 6).collect(),
        siblings: (0..3)
            .map(|core| (id * 6 + core * 2..id * 6 + core * 2 + 2).collect())
            .collect(),
        memory_bytes: 8 * GIB,
        pages: vec![
            Pages {
                size_kib: 4,
                total: 6 * GIB / 4096,
                reserved: 0,
            },
            Pages {
                size_kib: 2048,
                total: 1024,
                reserved: 0,
            },
        ],
    };
    let device = |alias: &str, n: u32, cell| PciDevice {
        address: format!("0000:0{n}:00.0"),
        alias: alias.to_owned(),
        cell,
    };
    let topology = HostTopology {
        cells: vec![cell(0), cell(1)],
        devices: vec![
            device("gpu", 1, Some(0)),
            device("gpu", 2, Some(1)),
            device("nic", 3, None),
        ],
    };
    Host {
        topology: Some(Arc::new(topology)),
        ..host()
    }
}

/// One core, 1 GiB of memory, 10 GiB of disk, anywhere.
pub(crate) fn request() -> Request {
    let resources = Resources {
        vcpus: 1,
        memory_bytes: GIB,
        disk_bytes: 10 * GIB,
    };
    Request::new("request", "shop/web-1", resources)
}

/// A request for a member of the group `web`.
pub(crate) fn member(policy: Policy) -> Request {
    Request {
        group: Some(Group {
            uid: Uid::from("web"),
            policy,
        }),
        ..request()
    }
}

/// An aggregate of some hosts.
pub(crate) fn aggregate(name: &str, hosts: &[&str], metadata: &[(&str, &str)]) -> Aggregate {
    Aggregate {
        name: name.to_owned(),
        hosts: hosts.iter().map(ToString::to_string).collect(),
        zone: None,
        metadata: metadata
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    }
}

/// A request that makes demands.
pub(crate) fn demanding(demands: Demands) -> Request {
    Request {
        demands: Some(Box::new(demands)),
        ..request()
    }
}

fn cluster(spec: &ProfileSpec) -> Cluster {
    let profile = Profile::resolve(spec).unwrap();
    Cluster::new(Settings {
        profile,
        reservation_ttl: Duration::from_secs(30),
        seed: 7,
    })
}

fn only(filter: &str) -> Cluster {
    only_with(&Options::default(), filter)
}

/// A cluster with one filter, after which there are only those that stand for Placement.
pub(crate) fn only_with(options: &Options, filter: &str) -> Cluster {
    cluster(&ProfileSpec {
        filters: vec![filter.to_owned()],
        weighers: vec![],
        options: options.clone(),
        ..ProfileSpec::default()
    })
}

/// What one filter alone says of `node-1`, which is in the aggregates.
pub(crate) fn verdict_in(filter: &str, aggregates: &[Aggregate], request: &Request) -> Result<(), String> {
    let mut cluster = only(filter);
    cluster.upsert_host(host());
    for aggregate in aggregates {
        cluster.upsert_aggregate(aggregate.clone());
    }
    ask(&cluster, request)
}

/// The refusal of a cluster, if it refuses.
pub(crate) fn ask(cluster: &Cluster, request: &Request) -> Result<(), String> {
    cluster
        .dry_run(request)
        .map(|_| ())
        .map_err(|refusal| refusal.to_string())
}

/// What one filter alone says of one host.
pub(crate) fn verdict(filter: &str, host: Host, request: &Request) -> Result<(), String> {
    let mut cluster = only(filter);
    cluster.upsert_host(host);
    ask(&cluster, request)
}

/// The same, with something already on the host.
pub(crate) fn verdict_beside(filter: &str, host: Host, used: &Resources, request: &Request) -> Result<(), String> {
    let mut cluster = only(filter);
    cluster.place(&Uid::from("other"), &host.name, used, None);
    cluster.upsert_host(host);
    ask(&cluster, request)
}

/// The same, with members of the group `web` on hosts.
pub(crate) fn verdict_with_members(
    filter: &str,
    host: Host,
    members: &[(&str, u32)],
    request: &Request,
) -> Result<(), String> {
    let mut cluster = only(filter);
    cluster.upsert_host(host);
    place_members(&mut cluster, members);
    ask(&cluster, request)
}

/// Puts members of the group `web`, which take no room, onto hosts.
pub(crate) fn place_members(cluster: &mut Cluster, members: &[(&str, u32)]) {
    for &(host, count) in members {
        for n in 0..count {
            let uid = Uid::from(format!("{host}/{n}"));
            cluster.place(&uid, host, &Resources::default(), Some(&Uid::from("web")));
        }
    }
}

/// The best three hosts and their weights.
pub(crate) fn best(cluster: &Cluster, request: &Request) -> Vec<(&'static str, f64)> {
    let names = ["node-1", "node-2", "node-3"];
    let mut cluster = cluster.clone();
    cluster.schedule(request, Duration::ZERO).unwrap();
    let known = |host: &str| names.into_iter().find(|name| *name == host).unwrap();
    let explanation = cluster.explanation(&request.uid).unwrap();
    explanation
        .best
        .iter()
        .map(|weighed| (known(&weighed.host), weighed.weight))
        .collect()
}

/// A cluster with one weigher, and no filters but those that stand for Placement.
pub(crate) fn weighing_with(options: &Options, weigher: &str, multiplier: f64, hosts: &[Host]) -> Cluster {
    let weighers = vec![WeigherSpec {
        name: weigher.to_owned(),
        multiplier,
    }];
    let mut cluster = cluster(&ProfileSpec {
        filters: vec![],
        weighers,
        options: options.clone(),
        ..ProfileSpec::default()
    });
    for host in hosts {
        cluster.upsert_host(host.clone());
    }
    cluster
}

fn weighing(weigher: &str, multiplier: f64, hosts: &[&str]) -> Cluster {
    let hosts: Vec<Host> = hosts.iter().map(|name| named(name)).collect();
    weighing_with(&Options::default(), weigher, multiplier, &hosts)
}

/// How one weigher alone ranks hosts.
pub(crate) fn among(weigher: &str, multiplier: f64, hosts: &[Host]) -> Vec<(&'static str, f64)> {
    among_with(&Options::default(), weigher, multiplier, hosts)
}

/// The same, with options.
pub(crate) fn among_with(
    options: &Options,
    weigher: &str,
    multiplier: f64,
    hosts: &[Host],
) -> Vec<(&'static str, f64)> {
    best(&weighing_with(options, weigher, multiplier, hosts), &request())
}

/// How one weigher alone ranks `node-1`, on which something is, and `node-2`, which is empty.
pub(crate) fn chosen(weigher: &str, multiplier: f64, on_the_first: &Resources) -> Vec<(&'static str, f64)> {
    let mut cluster = weighing(weigher, multiplier, &["node-1", "node-2"]);
    cluster.place(&Uid::from("other"), "node-1", on_the_first, None);
    best(&cluster, &request())
}

/// How one weigher alone ranks three hosts for a member of the group `web`.
pub(crate) fn chosen_among_members(weigher: &str, members: &[(&str, u32)], policy: Policy) -> Vec<(&'static str, f64)> {
    let mut cluster = weighing(weigher, 1.0, &["node-1", "node-2", "node-3"]);
    place_members(&mut cluster, members);
    best(&cluster, &member(policy))
}
