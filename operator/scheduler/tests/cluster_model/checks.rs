//! What must be true after every event.

use std::collections::{BTreeMap, BTreeSet};

use virga_scheduler::{Uid, Usage};

use crate::World;
use crate::shapes::{FOREVER, HOSTS, group, host_name};

impl World {
    /// The indices say what can be worked out from the facts.
    pub fn check_indices(&self) {
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
            let licences: u64 = self.model.on(&name).map(|held| held.licences).sum();
            let units = self.cluster.units_used(&name).into_values().sum::<u128>();
            assert_eq!(units, u128::from(licences), "{name}");
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

    /// Nothing of a host's cells and devices is promised or given to two.
    pub fn check_pins(&self) {
        for (host, ..) in self.model.hosts.values() {
            let mut cpus = BTreeMap::new();
            let mut devices = BTreeSet::new();
            let mut pages: BTreeMap<(u32, u64), u64> = BTreeMap::new();
            let on = |uid: &&Uid| self.model.held.get(*uid).is_some_and(|held| held.host == host.name);
            for uid in self.model.pins.keys().filter(on) {
                let pinning = &self.model.pins[uid];
                let own = pinning.emulator.iter().filter(|_| pinning.emulator_is_own);
                let cells = pinning.cells.iter();
                let pinned = cells.flat_map(|cell| cell.pins.iter().map(|&(_, cpu)| cpu).chain(cell.kept_empty.iter()));
                for cpu in pinned.chain(own) {
                    let other = cpus.insert(cpu, uid);
                    assert_eq!(other, None, "CPU {cpu} of {} is {uid}'s too", host.name);
                }
                for device in &pinning.devices {
                    assert!(
                        devices.insert(&device.address),
                        "{device:?} of {} is {uid}'s too",
                        host.name
                    );
                }
                for cell in &pinning.cells {
                    if let Some(size) = cell.page_kib {
                        *pages.entry((cell.cell, size)).or_default() += cell.memory_bytes / 1024 / size;
                    }
                }
            }
            for ((cell, size), used) in pages {
                let topology = host.topology.as_ref();
                let cell = topology.and_then(|topology| topology.cells.iter().find(|of| of.id == cell));
                let there = cell.and_then(|cell| cell.pages.iter().find(|pages| pages.size_kib == size));
                assert!(
                    there.is_none_or(|there| used <= there.total),
                    "{used} pages of {there:?}"
                );
            }
        }
        // Who has no place is there in fact, and there is no place for it.
        for (uid, held) in &self.model.held {
            let wants = held.pins.0.is_some() || !held.pins.1.is_empty();
            let Some((host, ..)) = self.model.hosts.get(&held.host).filter(|_| wants) else {
                continue;
            };
            if !self.model.pins.contains_key(uid) {
                assert!(
                    self.model.fit(host, uid, &held.pins).is_none(),
                    "{uid} has no place on {}",
                    held.host
                );
            }
        }
    }

    /// Whoever is not worth a try would be refused.
    pub fn check_nobody_waits_in_vain(&self) {
        let due: BTreeSet<Uid> = self.waiting.clone().due(FOREVER, usize::MAX).into_iter().collect();
        for (uid, request) in &self.requests {
            if self.waiting.cause(uid).is_some() && !due.contains(uid) {
                let answer = self.cluster.dry_run(request);
                assert!(answer.is_err(), "{uid} waits although it fits: {answer:?}");
            }
        }
    }
}
