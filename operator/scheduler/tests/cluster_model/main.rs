//! Any interleaving of events against a model that keeps nothing and works out everything anew.

#![allow(clippy::unwrap_used, reason = "what can't be set up has failed")]

mod cells;
mod checks;
mod model;
mod shapes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cells::pins;
use model::{Held, Model, Pins, allowed, fit_on, pins_of};
use proptest::prelude::*;
use shapes::{
    MOST_INSTANCES, MOST_IO_OPS, Op, RATIOS, TTL, UIDS, aggregate, aggregate_name, group, host, host_name, op, request,
    size, uid, units,
};
use virga_scheduler::topology::{Occupied, Pinning};
use virga_scheduler::{
    Cause, Claim, Cluster, Profile, ProfileSpec, Request, Resources, Settings, Uid, Verdict, Waiting, filters,
};

/// The cluster under test with its queue, and the model beside it.
struct World {
    cluster: Cluster,
    waiting: Waiting,
    requests: BTreeMap<Uid, Request>,
    model: Model,
    now: Duration,
}

impl World {
    fn new(all: bool) -> Self {
        let mut spec = ProfileSpec::default();
        if all {
            spec.filters = filters::all()
                .filter(|filter| filter.stands_in_for().is_none())
                .map(|filter| filter.name().to_owned())
                .collect();
            spec.options.max_instances_per_host = MOST_INSTANCES;
            spec.options.max_io_ops_per_host = MOST_IO_OPS;
        }
        let settings = Settings {
            profile: Profile::resolve(&spec).unwrap(),
            reservation_ttl: TTL,
            seed: 1,
        };
        Self {
            cluster: Cluster::new(settings),
            waiting: Waiting::default(),
            requests: BTreeMap::new(),
            model: Model {
                all,
                ..Model::default()
            },
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
            Op::Load {
                host: n,
                io_ops,
                failed_builds,
            } => {
                if let Some((host, ..)) = self.model.hosts.get_mut(&host_name(n)) {
                    (host.io_ops, host.failed_builds) = (io_ops, failed_builds);
                }
                self.cluster.set_load(&host_name(n), io_ops, failed_builds);
            }
            Op::UpsertAggregate {
                aggregate: n,
                hosts,
                says,
            } => {
                let aggregate = aggregate(n, hosts, says);
                self.model.aggregates.insert(aggregate.name.clone(), aggregate.clone());
                self.cluster.upsert_aggregate(aggregate);
            }
            Op::RemoveAggregate(n) => {
                self.model.aggregates.remove(&aggregate_name(n));
                self.cluster.remove_aggregate(&aggregate_name(n));
            }
            Op::Schedule { uid: n, ref ask } => self.schedule(&request(n, ask)),
            Op::Place {
                uid: n,
                host,
                size: s,
                licences,
                pins: p,
            } => self.place(n, &host_name(host), size(s), licences, pins(p), None),
            Op::Confirm(n) => {
                if let Some(held) = self.model.held.get(&uid(n)).cloned() {
                    self.place(n, &held.host, held.resources, held.licences, held.pins, None);
                }
            }
            Op::Tell(n) => self.tell(n),
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
            Op::NewLeader => self.take_over(),
            Op::RetryDue => {
                for uid in self.waiting.due(self.now, 2) {
                    let request = self.requests[&uid].clone();
                    self.schedule(&request);
                    self.note_pins();
                }
            }
        }
        for event in self.cluster.take_events() {
            self.waiting.wake(&event);
        }
        self.note_pins();
    }

    fn note_pins(&mut self) {
        let held = self.model.held.keys();
        let pins = held.filter_map(|uid| Some((uid.clone(), self.cluster.pinning(uid)?.clone())));
        self.model.pins = pins.collect();
    }

    /// What the API server shows is where Instances are and which wait; what was reserved is not among it.
    fn take_over(&mut self) {
        let mut new = Self::new(self.model.all);
        self.model.held.retain(|_, held| held.until.is_none());
        for (uid, held) in &self.model.held {
            let claim = Claim {
                units: Some(&units(held.licences)),
                group: held.group.as_ref(),
                topology: held.pins.0.as_ref(),
                devices: &held.pins.1,
                pinning: held.said.as_ref(),
                ..Claim::new(&held.host, &held.resources)
            };
            new.cluster.place_claim(uid, &claim);
        }
        for aggregate in self.model.aggregates.values() {
            new.cluster.upsert_aggregate(aggregate.clone());
        }
        for (host, ..) in self.model.hosts.values() {
            new.cluster.upsert_host(host.clone());
        }
        for uid in self.requests.keys().filter(|uid| self.waiting.cause(uid).is_some()) {
            new.waiting.nudge(uid);
        }
        self.cluster = new.cluster;
        self.waiting = new.waiting;
    }

    /// A host finds a place by itself: it knows of those who are there, and nothing of promises.
    fn tell(&mut self, n: usize) {
        let Some(held) = self
            .model
            .held
            .get(&uid(n))
            .filter(|held| held.until.is_none())
            .cloned()
        else {
            return;
        };
        let Some((host, ..)) = self.model.hosts.get(&held.host) else {
            return;
        };
        let mut occupied = Occupied::default();
        let others = self
            .model
            .held
            .iter()
            .filter(|(other, of)| **other != uid(n) && of.host == held.host);
        for said in others.filter_map(|(_, other)| other.said.as_ref()) {
            occupied.add(said);
        }
        if let Some(said) = fit_on(host, &occupied, held.pins.0.as_ref(), &held.pins.1) {
            let said = (!said.is_empty()).then_some(said);
            self.place(n, &held.host, held.resources, held.licences, held.pins, said);
        }
    }

    fn place(&mut self, n: usize, host: &str, resources: Resources, licences: u64, pins: Pins, said: Option<Pinning>) {
        let before = self.model.held.get(&uid(n)).cloned();
        let before = before.filter(|before| before.host == host && before.pins == pins);
        let group = group(n).map(|group| group.uid);
        let claim = Claim {
            units: Some(&units(licences)),
            group: group.as_ref(),
            topology: pins.0.as_ref(),
            devices: &pins.1,
            pinning: said.as_ref(),
            ..Claim::new(host, &resources)
        };
        self.cluster.place_claim(&uid(n), &claim);
        self.waiting.remove(&uid(n));
        self.model.held.insert(
            uid(n),
            Held {
                host: host.to_owned(),
                resources,
                group,
                licences,
                pins,
                // What a host has said holds until it says otherwise.
                said: said.or(before.and_then(|before| before.said)),
                until: None,
            },
        );
    }

    fn schedule(&mut self, request: &Request) {
        let until = self.now + TTL;
        let held = self.model.held.get(&request.uid).cloned();
        let group = request.group.as_ref().map(|group| group.uid.clone());
        let licences = request.demands.as_ref().unwrap().resources["CUSTOM_LICENCE"];
        let kept = held.as_ref().filter(|held| {
            let same = held.resources == request.resources
                && held.group == group
                && held.licences == licences
                && held.pins == pins_of(request);
            allowed(request, &held.host) && (held.until.is_none() || same && self.model.hosts.contains_key(&held.host))
        });
        let table = self.cluster.explain(request);
        assert_eq!(self.cluster.explain(request), table, "a table leaves no trace");
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
                // Every host's verdict is the model's, and the decision is the table's.
                let passed = table.hosts.iter().filter_map(|host| match &host.verdict {
                    Verdict::Passed { weight, .. } => Some((host.host.as_str(), *weight)),
                    Verdict::Rejected { .. } => None,
                });
                for ((name, weight), (expected, other)) in passed.zip(&weights) {
                    assert!(
                        name == expected && (weight - other).abs() < 1e-6,
                        "{table:?} and {weights:?}"
                    );
                }
                assert_eq!(table.hosts.len(), self.model.hosts.len());
                assert_eq!(table.chosen.as_deref(), Some(placement.host.as_str()));
                let explanation = self.cluster.explanation(&request.uid).unwrap();
                assert_eq!(explanation.host.as_deref(), Some(placement.host.as_str()));
                let counts = |rejections: &[virga_scheduler::Rejection]| {
                    rejections
                        .iter()
                        .map(|rejection| (rejection.filter, rejection.count))
                        .collect::<Vec<_>>()
                };
                assert_eq!(counts(&explanation.rejections), counts(&table.rejections));
                assert_eq!(placement.survivors as usize, weights.len());
                let best = weights.values().copied().fold(f64::NEG_INFINITY, f64::max);
                let weight = weights
                    .get(&placement.host)
                    .expect("the chosen host passes every rule of the model");
                assert!(
                    weights.len() == 1 || best - weight < 1e-6,
                    "{placement:?} of {weights:?}"
                );
                let asked = pins_of(request);
                let (host, ..) = &self.model.hosts[&placement.host];
                let expected = self.model.fit(host, &request.uid, &asked).unwrap();
                assert_eq!(placement.pinning.clone().unwrap_or_default(), expected);
                let resources = request.resources;
                let held = Held {
                    host: placement.host,
                    resources,
                    group,
                    licences,
                    pins: pins_of(request),
                    said: None,
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
                assert_eq!(table.rejections, refusal.rejections);
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
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_agrees_with_a_model_that_works_out_everything_anew(
        ops in proptest::collection::vec(op(), 1..120),
        all in proptest::bool::ANY,
    ) {
        let mut world = World::new(all);
        for op in &ops {
            world.apply(op);
            world.check_indices();
            world.check_pins();
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
