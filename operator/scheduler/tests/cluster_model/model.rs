//! Facts only; every question is answered by looking through all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use virga_scheduler::topology::{GuestTopology, Limits, Occupied, PciRequest, Pinning, fit};
use virga_scheduler::{Aggregate, Group, Host, Policy, Request, Resources, Scheduling, Uid};

use crate::shapes::{MOST_INSTANCES, MOST_IO_OPS, PARSED, QUERIES};

/// What is asked of cells and devices.
pub type Pins = (Option<GuestTopology>, Vec<PciRequest>);

#[derive(Debug, Clone)]
pub struct Held {
    pub host: String,
    pub resources: Resources,
    pub group: Option<Uid>,
    pub licences: u64,
    pub pins: Pins,
    /// Where its cells and devices are, as its host says.
    pub said: Option<Pinning>,
    pub until: Option<Duration>,
}

/// Facts only; every question is answered by looking through all of them.
#[derive(Debug, Default)]
pub struct Model {
    pub hosts: BTreeMap<String, (Host, u128, u128)>,
    pub held: BTreeMap<Uid, Held>,
    pub aggregates: BTreeMap<String, Aggregate>,
    /// Where everybody's cells and devices are, as the cluster had it after the last event.
    pub pins: BTreeMap<Uid, Pinning>,
    /// Whether all filters are in use, or the default ones only.
    pub all: bool,
}

impl Model {
    pub fn said(&self, host: &str, key: &str) -> Vec<&str> {
        let of_host = self
            .aggregates
            .values()
            .filter(|aggregate| aggregate.hosts.contains(host));
        of_host
            .filter_map(|aggregate| aggregate.metadata.get(key))
            .map(String::as_str)
            .collect()
    }

    pub fn least(&self, host: &str, key: &str, otherwise: u32) -> u32 {
        self.said(host, key)
            .iter()
            .map(|text| text.parse().unwrap())
            .min()
            .unwrap_or(otherwise)
    }

    pub fn count(&self, host: &str) -> u32 {
        u32::try_from(self.on(host).count()).unwrap()
    }

    pub fn io_ops(&self, host: &Host) -> u32 {
        let pending = self.on(&host.name).filter(|held| held.until.is_some()).count();
        host.io_ops + u32::try_from(pending).unwrap()
    }

    /// What the request demands beyond room, zone and group.
    pub fn meets(&self, host: &Host, request: &Request) -> bool {
        let demands = request.demands.as_ref().unwrap();
        let name = host.name.as_str();
        let licences = demands.resources["CUSTOM_LICENCE"];
        let total = host
            .inventories
            .get("CUSTOM_LICENCE")
            .map_or(0, |inventory| inventory.total);
        let used: u64 = self.on(name).map(|held| held.licences).sum();
        let licensed = licences == 0 || licences <= total && used + licences <= total * 3 / 2;
        let traits =
            demands.required_traits.is_subset(&host.traits) && demands.forbidden_traits.is_disjoint(&host.traits);
        let inside = |names: &BTreeSet<String>| {
            let mut of = names.iter().filter_map(|name| self.aggregates.get(name));
            of.any(|aggregate| aggregate.hosts.contains(name))
        };
        let hosts_of = |uids: &BTreeSet<Uid>| {
            let of = uids.iter().filter_map(|uid| self.held.get(uid));
            of.map(|held| held.host.clone()).collect::<BTreeSet<String>>()
        };
        let hints = &demands.hints;
        let asked = PARSED.iter().position(|query| hints.query.as_ref() == Some(query));
        let query = asked.map(|n| QUERIES[n].1);
        let named = || {
            let [vcpus, ..] = self.used(name);
            let query = query.is_none_or(|truth| truth(self.count(name).into(), vcpus.try_into().unwrap(), name));
            let tenants = self.said(name, "filter_tenant_id");
            !hosts_of(&hints.different_host).contains(name)
                && (hints.same_host.is_empty() || hosts_of(&hints.same_host).contains(name))
                && query
                && (demands.aggregate_specs.is_empty() || self.said(name, "fast").contains(&"true"))
                && (tenants.is_empty() || tenants.contains(&request.project.as_str()))
                && self.count(name)
                    < self
                        .least(name, "max_instances_per_host", MOST_INSTANCES)
                        .min(MOST_INSTANCES)
                && self.io_ops(host) < self.least(name, "max_io_ops_per_host", MOST_IO_OPS).min(MOST_IO_OPS)
        };
        licensed && traits && demands.member_of.iter().all(inside) && (!self.all || named())
    }

    /// What is taken of a host's cells and devices, without one Instance.
    pub fn occupied(&self, host: &str, without: &Uid) -> Occupied {
        let mut occupied = Occupied::default();
        let held = self
            .held
            .iter()
            .filter(|(uid, held)| held.host == host && *uid != without);
        for pinning in held.filter_map(|(uid, _)| self.pins.get(uid)) {
            occupied.add(pinning);
        }
        occupied
    }

    /// Where cells and devices can be on a host.
    pub fn fit(&self, host: &Host, without: &Uid, (guest, devices): &Pins) -> Option<Pinning> {
        if guest.is_none() && devices.is_empty() {
            return Some(Pinning::default());
        }
        let occupied = self.occupied(&host.name, without);
        fit_on(host, &occupied, guest.as_ref(), devices)
    }

    fn free_devices(&self, host: &Host, without: &Uid) -> u32 {
        let occupied = self.occupied(&host.name, without);
        let devices = host.topology.iter().flat_map(|topology| &topology.devices);
        let free = devices.filter(|device| !occupied.has_device(&device.address));
        u32::try_from(free.count()).unwrap()
    }

    pub fn on<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Held> {
        self.held.values().filter(move |held| held.host == host)
    }

    pub fn used(&self, host: &str) -> [u128; 3] {
        self.on(host).fold([0; 3], |[vcpus, memory, disk], held| {
            let Resources {
                vcpus: v,
                memory_bytes: m,
                disk_bytes: d,
            } = held.resources;
            [vcpus + u128::from(v), memory + u128::from(m), disk + u128::from(d)]
        })
    }

    pub fn members(&self, group: &Uid, host: &str) -> usize {
        self.on(host).filter(|held| held.group.as_ref() == Some(group)).count()
    }

    pub fn feasible(&self, request: &Request) -> Vec<&Host> {
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
                && request.zone.as_ref().is_none_or(|zone| {
                    let said = self.said(&host.name, "availability_zone");
                    zone == said.first().unwrap_or(&host.zone.as_str())
                })
                && self.meets(host, request)
                && self.fit(host, &request.uid, &pins_of(request)).is_some()
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

    /// The weight of each feasible host by Nova's rules, with Nova's multipliers.
    pub fn weights(&self, request: &Request) -> BTreeMap<String, f64> {
        let feasible = self.feasible(request);
        let mut weights: BTreeMap<String, f64> = feasible.iter().map(|host| (host.name.clone(), 0.0)).collect();
        let mut weigh = |floor: Option<f64>, multiplier: &dyn Fn(&Host) -> f64, measure: &dyn Fn(&Host) -> f64| {
            let measures: Vec<f64> = feasible
                .iter()
                .map(|host| measure(host).max(floor.unwrap_or(f64::NEG_INFINITY)))
                .collect();
            let highest = measures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lowest = floor.unwrap_or_else(|| measures.iter().copied().fold(f64::INFINITY, f64::min));
            for (host, measure) in feasible.iter().zip(measures) {
                if highest > lowest && feasible.len() > 1 {
                    *weights.get_mut(&host.name).unwrap() += multiplier(host) * (measure - lowest) / (highest - lowest);
                }
            }
        };
        let one = |_: &Host| 1.0;
        // The figures of this test are small.
        let float = |n: u128| f64::from(u32::try_from(n).unwrap());
        let left =
            |capacity: u64, reserved: u64, used: u128| float(u128::from(capacity - reserved).saturating_sub(used));
        weigh(Some(0.0), &one, &|host| {
            left(
                host.capacity.memory_bytes,
                host.reserved.memory_bytes,
                self.used(&host.name)[1],
            )
        });
        weigh(Some(0.0), &one, &|host| {
            left(
                host.capacity.disk_bytes,
                host.reserved.disk_bytes,
                self.used(&host.name)[2],
            )
        });
        let of_cpu = |host: &Host| f64::from(self.least(&host.name, "cpu_weight_multiplier", 1));
        weigh(Some(0.0), &of_cpu, &|host| {
            let (_, numerator, denominator) = &self.hosts[&host.name];
            let limit = u128::from(host.capacity.vcpus - host.reserved.vcpus) * numerator / denominator;
            float(limit.saturating_sub(self.used(&host.name)[0]))
        });
        weigh(Some(0.0), &|_| -1.0, &|host| f64::from(self.io_ops(host)));
        weigh(None, &|_| -1e6, &|host| f64::from(host.failed_builds));
        weigh(None, &one, &|host| {
            100.0 - f64::from(self.free_devices(host, &request.uid))
        });
        match &request.group {
            Some(Group {
                uid,
                policy: Policy::SoftAffinity,
            }) => {
                weigh(None, &one, &|host| float(self.members(uid, &host.name) as u128));
            }
            Some(Group {
                uid,
                policy: Policy::SoftAntiAffinity,
            }) => {
                weigh(None, &one, &|host| -float(self.members(uid, &host.name) as u128));
            }
            _ => {}
        }
        weights
    }
}

pub fn pins_of(request: &Request) -> Pins {
    let demands = request.demands.as_ref().unwrap();
    (demands.topology.clone(), demands.devices.clone())
}

/// Where cells and devices can be on a host of which so much is taken.
pub fn fit_on(
    host: &Host,
    occupied: &Occupied,
    guest: Option<&GuestTopology>,
    devices: &[PciRequest],
) -> Option<Pinning> {
    let limits = Limits {
        vcpus: host.ratios.vcpus,
        memory: host.ratios.memory,
    };
    fit(host.topology.as_deref()?, occupied, limits, guest, devices).ok()
}

pub fn allowed(request: &Request, host: &str) -> bool {
    !request.excluded_hosts.contains(host) && request.only_hosts.as_ref().is_none_or(|only| only.hosts.contains(host))
}
