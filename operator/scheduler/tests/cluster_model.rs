//! Any interleaving of events against a model that keeps nothing and works out everything anew.

#![allow(clippy::unwrap_used, reason = "what can't be set up has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use virga_scheduler::{
    Cause, Cluster, Group, Host, OnlyHosts, Policy, Profile, Ratios, Request, Resources, Scheduling, Settings, Uid,
    Usage, Waiting,
};

const TTL: Duration = Duration::from_secs(30);
const FOREVER: Duration = Duration::from_secs(1 << 40);
const HOSTS: usize = 5;
const UIDS: usize = 18;

/// Ratios as text for the cluster and as fractions for the model.
const RATIOS: [(&str, u128, u128); 4] = [("1", 1, 1), ("1.5", 3, 2), ("4", 4, 1), ("0.7", 7, 10)];

#[derive(Debug, Clone)]
enum Op {
    UpsertHost {
        host: usize,
        shape: HostShape,
    },
    RemoveHost(usize),
    Schedule {
        uid: usize,
        ask: AskShape,
    },
    Place {
        uid: usize,
        host: usize,
        size: usize,
    },
    /// The watch shows what was decided.
    Confirm(usize),
    Unplace(usize),
    Forget(usize),
    Unreserve(usize),
    Pass {
        seconds: u64,
    },
    RetryDue,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a throw of its own")]
#[derive(Debug, Clone)]
struct HostShape {
    size: usize,
    reserved: bool,
    ratio: usize,
    zone: bool,
    architecture: bool,
    alive: bool,
    cordoned: bool,
}

#[derive(Debug, Clone)]
struct AskShape {
    size: usize,
    zone: Option<bool>,
    architecture: Option<bool>,
    only: Option<usize>,
    excluded: Option<usize>,
}

fn host_shape() -> impl Strategy<Value = HostShape> {
    let odds = proptest::bool::weighted;
    (
        0..4usize,
        odds(0.3),
        0..RATIOS.len(),
        odds(0.3),
        odds(0.2),
        odds(0.9),
        odds(0.1),
    )
        .prop_map(
            |(size, reserved, ratio, zone, architecture, alive, cordoned)| HostShape {
                size,
                reserved,
                ratio,
                zone,
                architecture,
                alive,
                cordoned,
            },
        )
}

fn ask_shape() -> impl Strategy<Value = AskShape> {
    use proptest::option::weighted as rarely;
    (
        0..5usize,
        rarely(0.2, proptest::bool::weighted(0.3)),
        rarely(0.2, proptest::bool::weighted(0.2)),
        rarely(0.1, 0..HOSTS),
        rarely(0.2, 0..HOSTS),
    )
        .prop_map(|(size, zone, architecture, only, excluded)| AskShape {
            size,
            zone,
            architecture,
            only,
            excluded,
        })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..HOSTS, host_shape()).prop_map(|(host, shape)| Op::UpsertHost { host, shape }),
        1 => (0..HOSTS).prop_map(Op::RemoveHost),
        8 => (0..UIDS, ask_shape()).prop_map(|(uid, ask)| Op::Schedule { uid, ask }),
        1 => (0..UIDS, 0..HOSTS, 0..5usize).prop_map(|(uid, host, size)| Op::Place { uid, host, size }),
        3 => (0..UIDS).prop_map(Op::Confirm),
        1 => (0..UIDS).prop_map(Op::Unplace),
        2 => (0..UIDS).prop_map(Op::Forget),
        1 => (0..UIDS).prop_map(Op::Unreserve),
        2 => (1..20u64).prop_map(|seconds| Op::Pass { seconds }),
        3 => Just(Op::RetryDue),
    ]
}

fn uid(n: usize) -> Uid {
    Uid::from(format!("instance-{n}"))
}

fn host_name(n: usize) -> String {
    format!("node-{n}")
}

/// Sizes of Instances; the last is larger than most hosts.
fn size(n: usize) -> Resources {
    let [vcpus, memory_bytes, disk_bytes] = [[0, 0, 0], [1, 10, 0], [2, 15, 40], [3, 40, 7], [7, 70, 70]][n];
    Resources {
        vcpus,
        memory_bytes: memory_bytes.into(),
        disk_bytes: disk_bytes.into(),
    }
}

/// Three uids share each group; a sixth of them have none.
fn group(n: usize) -> Option<Group> {
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

fn host(n: usize, shape: &HostShape) -> Host {
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
    Host {
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

fn zone(second: bool) -> &'static str {
    if second { "az2" } else { "az1" }
}

fn architecture(second: bool) -> &'static str {
    if second { "aarch64" } else { "x86_64" }
}

fn request(n: usize, ask: &AskShape) -> Request {
    let only = |host| OnlyHosts {
        hosts: BTreeSet::from([host_name(host)]),
        reason: "a volume is there".to_owned(),
    };
    Request {
        zone: ask.zone.map(|second| zone(second).to_owned()),
        architecture: ask.architecture.map(|second| architecture(second).to_owned()),
        group: group(n),
        only_hosts: ask.only.map(only),
        excluded_hosts: ask.excluded.map(host_name).into_iter().collect(),
        ..Request::new(uid(n), format!("shop/instance-{n}"), size(ask.size))
    }
}

#[derive(Debug, Clone)]
struct Held {
    host: String,
    resources: Resources,
    group: Option<Uid>,
    until: Option<Duration>,
}

/// Facts only; every question is answered by looking through all of them.
#[derive(Debug, Default)]
struct Model {
    hosts: BTreeMap<String, (Host, u128, u128)>,
    held: BTreeMap<Uid, Held>,
}

impl Model {
    fn on<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Held> {
        self.held.values().filter(move |held| held.host == host)
    }

    fn used(&self, host: &str) -> [u128; 3] {
        self.on(host).fold([0; 3], |[vcpus, memory, disk], held| {
            let Resources {
                vcpus: v,
                memory_bytes: m,
                disk_bytes: d,
            } = held.resources;
            [vcpus + u128::from(v), memory + u128::from(m), disk + u128::from(d)]
        })
    }

    fn members(&self, group: &Uid, host: &str) -> usize {
        self.on(host).filter(|held| held.group.as_ref() == Some(group)).count()
    }

    fn feasible(&self, request: &Request) -> Vec<&Host> {
        let passes = |(host, numerator, denominator): &&(Host, u128, u128)| {
            let amounts = |r: &Resources| [u128::from(r.vcpus), r.memory_bytes.into(), r.disk_bytes.into()];
            let (asked, used) = (amounts(&request.resources), self.used(&host.name));
            let (capacity, reserved) = (amounts(&host.capacity), amounts(&host.reserved));
            let room = (0..3).all(|n| {
                let within = (capacity[n] - reserved[n]) * numerator >= (used[n] + asked[n]) * denominator;
                asked[n] == 0 || asked[n] <= capacity[n] && within
            });
            let group = match &request.group {
                Some(Group {
                    uid,
                    policy: Policy::Affinity,
                }) => {
                    let anywhere = self.held.values().any(|held| held.group.as_ref() == Some(uid));
                    !anywhere || self.members(uid, &host.name) > 0
                }
                Some(Group {
                    uid,
                    policy: Policy::AntiAffinity { max_per_host },
                }) => self.members(uid, &host.name) < max_per_host.get() as usize,
                _ => true,
            };
            host.alive
                && host.scheduling == Scheduling::Enabled
                && request.zone.as_ref().is_none_or(|zone| *zone == host.zone)
                && request
                    .architecture
                    .as_ref()
                    .is_none_or(|architecture| *architecture == host.architecture)
                && allowed(request, &host.name)
                && room
                && group
        };
        self.hosts.values().filter(passes).map(|(host, ..)| host).collect()
    }

    /// The weight of each feasible host by Nova's rules, with all multipliers 1.
    fn weights(&self, request: &Request) -> BTreeMap<String, f64> {
        let feasible = self.feasible(request);
        let mut weights: BTreeMap<String, f64> = feasible.iter().map(|host| (host.name.clone(), 0.0)).collect();
        let mut weigh = |floor: Option<f64>, measure: &dyn Fn(&Host) -> f64| {
            let measures: Vec<f64> = feasible
                .iter()
                .map(|host| measure(host).max(floor.unwrap_or(f64::NEG_INFINITY)))
                .collect();
            let highest = measures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lowest = floor.unwrap_or_else(|| measures.iter().copied().fold(f64::INFINITY, f64::min));
            for (host, measure) in feasible.iter().zip(measures) {
                if highest > lowest {
                    *weights.get_mut(&host.name).unwrap() += (measure - lowest) / (highest - lowest);
                }
            }
        };
        // The figures of this test are small.
        let float = |n: u128| f64::from(u32::try_from(n).unwrap());
        let left =
            |capacity: u64, reserved: u64, used: u128| float(u128::from(capacity - reserved).saturating_sub(used));
        weigh(Some(0.0), &|host| {
            left(
                host.capacity.memory_bytes,
                host.reserved.memory_bytes,
                self.used(&host.name)[1],
            )
        });
        weigh(Some(0.0), &|host| {
            left(
                host.capacity.disk_bytes,
                host.reserved.disk_bytes,
                self.used(&host.name)[2],
            )
        });
        weigh(Some(0.0), &|host| {
            let (_, numerator, denominator) = &self.hosts[&host.name];
            let limit = u128::from(host.capacity.vcpus - host.reserved.vcpus) * numerator / denominator;
            float(limit.saturating_sub(self.used(&host.name)[0]))
        });
        match &request.group {
            Some(Group {
                uid,
                policy: Policy::SoftAffinity,
            }) => {
                weigh(None, &|host| float(self.members(uid, &host.name) as u128));
            }
            Some(Group {
                uid,
                policy: Policy::SoftAntiAffinity,
            }) => {
                weigh(None, &|host| -float(self.members(uid, &host.name) as u128));
            }
            _ => {}
        }
        weights
    }
}

fn allowed(request: &Request, host: &str) -> bool {
    !request.excluded_hosts.contains(host) && request.only_hosts.as_ref().is_none_or(|only| only.hosts.contains(host))
}

/// The cluster under test with its queue, and the model beside it.
struct World {
    cluster: Cluster,
    waiting: Waiting,
    requests: BTreeMap<Uid, Request>,
    model: Model,
    now: Duration,
}

impl World {
    fn new() -> Self {
        let settings = Settings {
            profile: Profile::default(),
            reservation_ttl: TTL,
            seed: 1,
        };
        Self {
            cluster: Cluster::new(settings),
            waiting: Waiting::default(),
            requests: BTreeMap::new(),
            model: Model::default(),
            now: Duration::ZERO,
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::UpsertHost { host: n, ref shape } => {
                let (_, numerator, denominator) = RATIOS[shape.ratio];
                let host = host(n, shape);
                self.model
                    .hosts
                    .insert(host.name.clone(), (host.clone(), numerator, denominator));
                self.cluster.upsert_host(host);
            }
            Op::RemoveHost(n) => {
                self.model.hosts.remove(&host_name(n));
                self.cluster.remove_host(&host_name(n));
            }
            Op::Schedule { uid: n, ref ask } => self.schedule(&request(n, ask)),
            Op::Place { uid: n, host, size: s } => self.place(n, &host_name(host), size(s)),
            Op::Confirm(n) => {
                if let Some(held) = self.model.held.get(&uid(n)).cloned() {
                    self.place(n, &held.host, held.resources);
                }
            }
            Op::Unplace(n) => {
                self.cluster.unplace(&uid(n));
                if self.model.held.get(&uid(n)).is_some_and(|held| held.until.is_none()) {
                    self.model.held.remove(&uid(n));
                }
            }
            Op::Forget(n) => {
                self.cluster.forget(&uid(n));
                self.waiting.remove(&uid(n));
                self.model.held.remove(&uid(n));
            }
            Op::Unreserve(n) => {
                self.cluster.unreserve(&uid(n));
                if self.model.held.get(&uid(n)).is_some_and(|held| held.until.is_some()) {
                    self.model.held.remove(&uid(n));
                }
            }
            Op::Pass { seconds } => {
                self.now += Duration::from_secs(seconds);
                let expired: BTreeSet<Uid> = self.cluster.expire(self.now).into_iter().collect();
                let over = |held: &Held| held.until.is_some_and(|until| until <= self.now);
                let expected: BTreeSet<Uid> = self
                    .model
                    .held
                    .iter()
                    .filter(|(_, held)| over(held))
                    .map(|(uid, _)| uid.clone())
                    .collect();
                assert_eq!(expired, expected);
                self.model.held.retain(|uid, _| !expired.contains(uid));
            }
            Op::RetryDue => {
                for uid in self.waiting.due(self.now, 2) {
                    let request = self.requests[&uid].clone();
                    self.schedule(&request);
                }
            }
        }
        for event in self.cluster.take_events() {
            self.waiting.wake(&event);
        }
    }

    fn place(&mut self, n: usize, host: &str, resources: Resources) {
        let group = group(n).map(|group| group.uid);
        self.cluster.place(&uid(n), host, &resources, group.as_ref());
        self.waiting.remove(&uid(n));
        self.model.held.insert(
            uid(n),
            Held {
                host: host.to_owned(),
                resources,
                group,
                until: None,
            },
        );
    }

    fn schedule(&mut self, request: &Request) {
        let until = self.now + TTL;
        let held = self.model.held.get(&request.uid).cloned();
        let group = request.group.as_ref().map(|group| group.uid.clone());
        let kept = held.as_ref().filter(|held| {
            let same = held.resources == request.resources && held.group == group;
            allowed(request, &held.host) && (held.until.is_none() || same && self.model.hosts.contains_key(&held.host))
        });
        let foreseen = self.cluster.dry_run(request);
        let answer = self.cluster.schedule(request, self.now);
        assert_eq!(foreseen, answer, "a dry run must tell the truth");
        if let Some(kept) = kept {
            let answer = answer.unwrap();
            assert!(answer.reused && answer.host == kept.host);
            if kept.until.is_some() {
                self.model.held.get_mut(&request.uid).unwrap().until = Some(until);
            }
            self.waiting.remove(&request.uid);
            return;
        }
        self.model.held.remove(&request.uid);
        match answer {
            Ok(placement) => {
                let weights = self.model.weights(request);
                assert_eq!(placement.survivors as usize, weights.len());
                let best = weights.values().copied().fold(f64::NEG_INFINITY, f64::max);
                let weight = weights
                    .get(&placement.host)
                    .expect("the chosen host passes every rule of the model");
                assert!(
                    weights.len() == 1 || best - weight < 1e-9,
                    "{placement:?} of {weights:?}"
                );
                let resources = request.resources;
                let held = Held {
                    host: placement.host,
                    resources,
                    group,
                    until: Some(until),
                };
                self.model.held.insert(request.uid.clone(), held);
                self.waiting.remove(&request.uid);
            }
            Err(refusal) => {
                assert!(
                    self.model.feasible(request).is_empty(),
                    "{refusal} although there is room"
                );
                assert_eq!(refusal.hosts as usize, self.model.hosts.len());
                let counted: u32 = refusal.rejections.iter().map(|rejection| rejection.count).sum();
                assert_eq!(counted, refusal.hosts, "each host is counted once");
                if let Some(placed) = held.filter(|held| held.until.is_none()) {
                    self.model.held.insert(request.uid.clone(), placed);
                }
                self.waiting
                    .park(&request.uid, Cause::refused(request, &refusal), self.now);
                self.requests.insert(request.uid.clone(), request.clone());
            }
        }
    }

    /// The indices say what can be worked out from the facts.
    fn check_indices(&self) {
        for n in 0..HOSTS {
            let name = host_name(n);
            let [vcpus, memory_bytes, disk_bytes] = self.model.used(&name);
            let instances = u32::try_from(self.model.on(&name).count()).unwrap();
            let usage = Usage {
                instances,
                vcpus: u64::try_from(vcpus).unwrap(),
                memory_bytes,
                disk_bytes,
            };
            assert_eq!(self.cluster.usage(&name), usage, "{name}");
            assert_eq!(
                self.cluster.host(&name),
                self.model.hosts.get(&name).map(|(host, ..)| host)
            );
            for group in (0..6).filter_map(group) {
                let members = self.model.members(&group.uid, &name);
                assert_eq!(
                    self.cluster.members_on(&group.uid, &name) as usize,
                    members,
                    "{group:?} on {name}"
                );
            }
        }
        assert_eq!(self.cluster.len(), self.model.held.len());
        assert_eq!(
            self.cluster.reservations(),
            self.model.held.values().filter(|held| held.until.is_some()).count(),
            "a reservation leaked"
        );
        for (uid, held) in &self.model.held {
            let binding = self.cluster.binding(uid).unwrap();
            assert_eq!((binding.host, binding.resources), (held.host.as_str(), held.resources));
            assert_eq!(binding.reserved_until, held.until);
        }
    }

    /// Whoever is not worth a try would be refused.
    fn check_nobody_waits_in_vain(&self) {
        let due: BTreeSet<Uid> = self.waiting.clone().due(FOREVER, usize::MAX).into_iter().collect();
        for (uid, request) in &self.requests {
            if self.waiting.cause(uid).is_some() && !due.contains(uid) {
                let answer = self.cluster.dry_run(request);
                assert!(answer.is_err(), "{uid} waits although it fits: {answer:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_agrees_with_a_model_that_works_out_everything_anew(
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.check_indices();
            world.check_nobody_waits_in_vain();
        }
        // And nothing is left when everybody is gone.
        for n in 0..UIDS {
            world.apply(&Op::Forget(n));
        }
        world.check_indices();
        prop_assert!(world.cluster.is_empty() && world.waiting.is_empty());
        prop_assert_eq!(world.cluster.reservations(), 0);
    }
}
