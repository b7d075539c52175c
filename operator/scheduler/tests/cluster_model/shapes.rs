//! What may happen, and the hosts, aggregates and requests that it happens to.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use virga_scheduler::{
    Aggregate, Demands, Group, Hints, Host, Inventory, OnlyHosts, Policy, Query, Ratios, Request, Resources,
    Scheduling, Uid,
};

use crate::cells::{PINS, pins, topology};

pub const TTL: Duration = Duration::from_secs(30);
pub const FOREVER: Duration = Duration::from_secs(1 << 40);
pub const HOSTS: usize = 5;
pub const UIDS: usize = 18;

/// Ratios as text for the cluster and as fractions for the model.
pub const RATIOS: [(&str, u128, u128); 4] = [("1", 1, 1), ("1.5", 3, 2), ("4", 4, 1), ("0.7", 7, 10)];

pub const AGGREGATES: usize = 3;

/// What aggregates may say.
pub const SAYINGS: [(&str, &str); 6] = [
    ("availability_zone", "az2"),
    ("fast", "true"),
    ("max_instances_per_host", "2"),
    ("cpu_weight_multiplier", "3"),
    ("filter_tenant_id", "bank"),
    ("max_io_ops_per_host", "3"),
];

/// Queries, and what they come to, given the host's Instances, processors given out, and name.
pub type Truth = fn(u64, u64, &str) -> bool;
pub const QUERIES: [(&str, Truth); 4] = [
    (r#"["<", "$num_instances", 2]"#, |instances, _, _| instances < 2),
    (r#"[">=", "$vcpus_used", 1]"#, |_, vcpus, _| vcpus >= 1),
    (
        r#"["or", ["in", "$host", "node-1", "node-3"], ["=", "$num_instances", 1]]"#,
        |instances, _, name| ["node-1", "node-3"].contains(&name) || instances == 1,
    ),
    (r#"["not", [">", "$num_instances", 0]]"#, |instances, _, _| {
        instances == 0
    }),
];

pub static PARSED: LazyLock<Vec<Query>> =
    LazyLock::new(|| QUERIES.iter().map(|(text, _)| Query::parse(text).unwrap()).collect());

/// Limits of the profile with all filters.
pub const MOST_INSTANCES: u32 = 4;
pub const MOST_IO_OPS: u32 = 5;

#[derive(Debug, Clone)]
pub enum Op {
    UpsertHost {
        host: usize,
        shape: HostShape,
    },
    RemoveHost(usize),
    Load {
        host: usize,
        io_ops: u32,
        failed_builds: u32,
    },
    /// The bits of `hosts` say which are in it.
    UpsertAggregate {
        aggregate: usize,
        hosts: u8,
        says: usize,
    },
    RemoveAggregate(usize),
    Schedule {
        uid: usize,
        ask: AskShape,
    },
    Place {
        uid: usize,
        host: usize,
        size: usize,
        licences: u64,
        pins: usize,
    },
    /// The watch shows what was decided.
    Confirm(usize),
    /// The host says where its cells and devices are.
    Tell(usize),
    Unplace(usize),
    Forget(usize),
    Unreserve(usize),
    Pass {
        seconds: u64,
    },
    RetryDue,
    /// Another process takes over, and knows only what the API server does.
    NewLeader,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a throw of its own")]
#[derive(Debug, Clone)]
pub struct HostShape {
    pub size: usize,
    pub reserved: bool,
    pub ratio: usize,
    pub zone: bool,
    pub architecture: bool,
    pub alive: bool,
    pub cordoned: bool,
    pub ssd: bool,
    pub licences: u64,
    pub io_ops: u32,
    pub failed_builds: u32,
    pub cells: usize,
}

#[derive(Debug, Clone)]
pub struct AskShape {
    pub size: usize,
    pub zone: Option<bool>,
    pub architecture: Option<bool>,
    pub only: Option<usize>,
    pub excluded: Option<usize>,
    pub licences: u64,
    /// Required or forbidden.
    pub ssd: Option<bool>,
    pub member_of: Option<usize>,
    pub different: Option<usize>,
    pub same: Option<usize>,
    pub fast: bool,
    pub query: Option<usize>,
    pub pins: usize,
}

pub fn host_shape() -> impl Strategy<Value = HostShape> {
    let odds = proptest::bool::weighted;
    let capacity = (0..4usize, odds(0.3), 0..RATIOS.len());
    let kind = (odds(0.3), odds(0.2), odds(0.9), odds(0.1), odds(0.5));
    (capacity, kind, 0..4u64, 0..4u32, 0..2u32, 0..3usize).prop_map(
        |(
            (size, reserved, ratio),
            (zone, architecture, alive, cordoned, ssd),
            licences,
            io_ops,
            failed_builds,
            cells,
        )| {
            HostShape {
                size,
                reserved,
                ratio,
                zone,
                architecture,
                alive,
                cordoned,
                ssd,
                licences,
                io_ops,
                failed_builds,
                cells,
            }
        },
    )
}

pub fn ask_shape() -> impl Strategy<Value = AskShape> {
    use proptest::option::weighted as rarely;
    let odds = proptest::bool::weighted;
    let plain = (
        0..5usize,
        rarely(0.2, odds(0.3)),
        rarely(0.2, odds(0.2)),
        rarely(0.1, 0..HOSTS),
        rarely(0.2, 0..HOSTS),
    );
    let demands = (
        prop_oneof![4 => Just(0u64), 1 => 1..4u64],
        rarely(0.1, odds(0.5)),
        rarely(0.1, 0..AGGREGATES),
        rarely(0.1, 0..UIDS),
        rarely(0.1, 0..UIDS),
        odds(0.1),
        rarely(0.1, 0..QUERIES.len()),
    );
    let pins = prop_oneof![2 => Just(0), 3 => 0..PINS];
    (plain, demands, pins).prop_map(
        |(
            (size, zone, architecture, only, excluded),
            (licences, ssd, member_of, different, same, fast, query),
            pins,
        )| {
            AskShape {
                size,
                zone,
                architecture,
                only,
                excluded,
                licences,
                ssd,
                member_of,
                different,
                same,
                fast,
                query,
                pins,
            }
        },
    )
}

pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..HOSTS, host_shape()).prop_map(|(host, shape)| Op::UpsertHost { host, shape }),
        1 => (0..HOSTS).prop_map(Op::RemoveHost),
        2 => (0..HOSTS, 0..5u32, 0..3u32)
            .prop_map(|(host, io_ops, failed_builds)| Op::Load { host, io_ops, failed_builds }),
        2 => (0..AGGREGATES, 0..32u8, 0..SAYINGS.len())
            .prop_map(|(aggregate, hosts, says)| Op::UpsertAggregate { aggregate, hosts, says }),
        1 => (0..AGGREGATES).prop_map(Op::RemoveAggregate),
        8 => (0..UIDS, ask_shape()).prop_map(|(uid, ask)| Op::Schedule { uid, ask }),
        1 => (0..UIDS, 0..HOSTS, 0..5usize, 0..3u64, 0..PINS)
            .prop_map(|(uid, host, size, licences, pins)| Op::Place { uid, host, size, licences, pins }),
        3 => (0..UIDS).prop_map(Op::Confirm),
        3 => (0..UIDS).prop_map(Op::Tell),
        1 => (0..UIDS).prop_map(Op::Unplace),
        2 => (0..UIDS).prop_map(Op::Forget),
        1 => (0..UIDS).prop_map(Op::Unreserve),
        2 => (1..20u64).prop_map(|seconds| Op::Pass { seconds }),
        3 => Just(Op::RetryDue),
        1 => Just(Op::NewLeader),
    ]
}

pub fn uid(n: usize) -> Uid {
    Uid::from(format!("instance-{n}"))
}

pub fn host_name(n: usize) -> String {
    format!("node-{n}")
}

/// Sizes of Instances; the last is larger than most hosts.
pub fn size(n: usize) -> Resources {
    let [vcpus, memory_bytes, disk_bytes] = [[0, 0, 0], [1, 10, 0], [2, 15, 40], [3, 40, 7], [7, 70, 70]][n];
    Resources {
        vcpus,
        memory_bytes: memory_bytes.into(),
        disk_bytes: disk_bytes.into(),
    }
}

/// Three uids share each group; a sixth of them have none.
pub fn group(n: usize) -> Option<Group> {
    let policies = [
        Policy::ANTI_AFFINITY,
        Policy::Affinity,
        Policy::AntiAffinity {
            max_per_host: NonZeroU32::new(2).unwrap(),
        },
        Policy::SoftAffinity,
        Policy::SoftAntiAffinity,
    ];
    let policy = *policies.get(n % 6)?;
    Some(Group {
        uid: Uid::from(format!("group-{}", n % 6)),
        policy,
    })
}

pub fn host(n: usize, shape: &HostShape) -> Host {
    let [vcpus, memory_bytes, disk_bytes] = [[2, 20, 50], [4, 50, 50], [8, 100, 100], [3, 33, 33]][shape.size];
    let capacity = Resources {
        vcpus,
        memory_bytes: memory_bytes.into(),
        disk_bytes: disk_bytes.into(),
    };
    let ratio = RATIOS[shape.ratio].0.parse().unwrap();
    let reserved = Resources {
        vcpus: 1,
        memory_bytes: 5,
        disk_bytes: 3,
    };
    let inventory = Inventory {
        ratio: "1.5".parse().unwrap(),
        ..Inventory::new(shape.licences)
    };
    Host {
        traits: shape.ssd.then(|| "CUSTOM_SSD".to_owned()).into_iter().collect(),
        inventories: (shape.licences > 0)
            .then(|| ("CUSTOM_LICENCE".to_owned(), inventory))
            .into_iter()
            .collect(),
        io_ops: shape.io_ops,
        failed_builds: shape.failed_builds,
        topology: topology(shape.cells),
        reserved: if shape.reserved { reserved } else { Resources::default() },
        ratios: Ratios {
            vcpus: ratio,
            memory: ratio,
            disk: ratio,
        },
        alive: shape.alive,
        scheduling: if shape.cordoned {
            Scheduling::Cordoned {
                reason: "tests".to_owned(),
            }
        } else {
            Scheduling::Enabled
        },
        ..Host::new(
            host_name(n),
            zone(shape.zone),
            architecture(shape.architecture),
            capacity,
        )
    }
}

pub fn aggregate_name(n: usize) -> String {
    format!("aggregate-{n}")
}

pub fn aggregate(n: usize, hosts: u8, says: usize) -> Aggregate {
    let (key, value) = SAYINGS[says];
    Aggregate {
        name: aggregate_name(n),
        hosts: (0..HOSTS)
            .filter(|host| hosts >> host & 1 == 1)
            .map(host_name)
            .collect(),
        zone: None,
        metadata: BTreeMap::from([(key.to_owned(), value.to_owned())]),
    }
}

pub fn units(licences: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([("CUSTOM_LICENCE".to_owned(), licences)])
}

pub fn zone(second: bool) -> &'static str {
    if second { "az2" } else { "az1" }
}

pub fn architecture(second: bool) -> &'static str {
    if second { "aarch64" } else { "x86_64" }
}

pub fn request(n: usize, ask: &AskShape) -> Request {
    let only = |host| OnlyHosts {
        hosts: BTreeSet::from([host_name(host)]),
        reason: "a volume is there".to_owned(),
    };
    let ssd = BTreeSet::from(["CUSTOM_SSD".to_owned()]);
    let (topology, devices) = pins(ask.pins);
    let demands = Demands {
        topology,
        devices,
        resources: units(ask.licences),
        required_traits: if ask.ssd == Some(true) {
            ssd.clone()
        } else {
            BTreeSet::new()
        },
        forbidden_traits: if ask.ssd == Some(false) { ssd } else { BTreeSet::new() },
        member_of: ask
            .member_of
            .map(|n| BTreeSet::from([aggregate_name(n)]))
            .into_iter()
            .collect(),
        aggregate_specs: ask
            .fast
            .then(|| ("fast".to_owned(), "true".to_owned()))
            .into_iter()
            .collect(),
        hints: Hints {
            different_host: ask.different.map(uid).into_iter().collect(),
            same_host: ask.same.map(uid).into_iter().collect(),
            query: ask.query.map(|n| PARSED[n].clone()),
            near: None,
        },
        ..Demands::default()
    };
    Request {
        demands: Some(Box::new(demands)),
        project: "shop".to_owned(),
        zone: ask.zone.map(|second| zone(second).to_owned()),
        architecture: ask.architecture.map(|second| architecture(second).to_owned()),
        group: group(n),
        only_hosts: ask.only.map(only),
        excluded_hosts: ask.excluded.map(host_name).into_iter().collect(),
        ..Request::new(uid(n), format!("shop/instance-{n}"), size(ask.size))
    }
}
