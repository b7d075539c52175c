//! How is the index kept up to date? Each of these looks the object up anew in the stores, so that a change that arrives
//! late does no harm, and one that arrives twice none either.

use std::collections::HashSet;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tokio::time::Instant;
use virga_core::hypervisor::HEARTBEAT_LIMIT;
use virga_crds::{Hypervisor, Instance, Volume};
use virga_scheduler::{Claim, Event, Resources, Uid};

use super::{
    host::{self, Around, Lowest},
    load::{Build, Load},
    missing,
    queue::stays_away,
    rejection,
    state::{Key, Known, LEASE_PREFIX, Pending, Scheduler, State},
    takes,
};

impl Scheduler {
    /// An Instance was made, changed or deleted.
    pub(super) fn note_instance(&self, key: &Key) {
        let found = self.stores.instance(&key.0, &key.1);
        let mut state = self.state();
        let was_known = state.known.contains_key(key);
        match &found {
            Some(instance) => self.place_seen(&mut state, key, instance),
            None => forget(&mut state, key),
        }
        let new = found.is_some_and(|_| !was_known);
        self.spread(&mut state);
        drop(state);
        if new {
            // Hints of others may name it.
            self.note_appeared(&missing::key("Instance", &key.0, &key.1));
        }
    }

    fn place_seen(&self, state: &mut State, key: &Key, instance: &Instance) {
        let uid = Uid::from(instance.uid().unwrap_or_default());
        let before = state.known.get(key).cloned();
        if before.as_ref().is_some_and(|before| before.uid != uid) {
            forget(state, key);
        }
        let before = before.filter(|before| before.uid == uid);
        let host = instance
            .spec
            .node_name
            .as_deref()
            .filter(|_| !rejection::is_rejected(instance));
        let now = Known {
            uid: uid.clone(),
            generation: instance.metadata.generation,
            placed: host.is_some(),
            build: Build::of(instance),
        };
        let busy = state.loads.note(
            before.as_ref().and_then(|before| before.build.as_ref()),
            now.build.as_ref(),
        );
        reload(state, &busy);
        if let Some(host) = host {
            let held = self.held(state, &uid, instance);
            state.cluster.place_claim(&uid, &held.claim(host));
            if before.is_none() {
                confirm(state, &uid, instance, host, &held.taken.resources);
            }
            if before.as_ref().is_none_or(|before| !before.placed) {
                state.cluster.seen_bound(&uid, host, self.now());
            }
            stop_waiting(state, &uid);
        } else {
            state.cluster.unplace(&uid);
            if instance.metadata.deletion_timestamp.is_some() || stays_away(instance) {
                stop_waiting(state, &uid);
            } else if before.as_ref() != Some(&now) {
                state.waiters.insert(uid.clone(), key.clone());
                state.waiting.nudge(&uid);
                self.woken.notify_one();
            }
        }
        state.known.insert(key.clone(), now);
    }

    /// A Hypervisor was made, changed or deleted.
    pub(super) fn note_hypervisor(&self, name: &str) {
        let found = self.stores.hypervisors.get(&ObjectRef::new(name));
        let mut state = self.state();
        let known = state.cluster.host(name).is_some();
        if let Some(hypervisor) = &found {
            self.upsert_host(&mut state, hypervisor);
            self.join(&mut state, hypervisor);
        } else {
            state.cluster.remove_host(name);
            state.memberships.remove(name);
        }
        let came = found.is_some() && !known;
        self.spread(&mut state);
        drop(state);
        if came {
            self.note_appeared(&missing::key("Hypervisor", "", name));
        }
    }

    /// Takes over what these hosts are busy with.
    pub(super) fn upsert_host(&self, state: &mut State, hypervisor: &Hypervisor) {
        let lease = format!("{LEASE_PREFIX}{}", hypervisor.name_any());
        let heard_of = state.beats.is_fresh(&lease, self.clock.instant(), HEARTBEAT_LIMIT);
        let aggregates = state.aggregates.clone();
        let around = Around {
            heard_of,
            zone: aggregates.zone(hypervisor).map(|zone| zone.name),
            load: state.loads.of(&hypervisor.name_any()),
            lowest: Lowest::of(aggregates.of(hypervisor)),
        };
        state
            .cluster
            .upsert_host(host::host(hypervisor, around, &self.defaults));
    }

    /// A Lease was renewed or deleted.
    pub(super) fn note_lease(&self, lease: &Lease) {
        let name = lease.name_any();
        let Some(node) = name.strip_prefix(LEASE_PREFIX) else {
            return;
        };
        let exists = self.stores.leases.get(&ObjectRef::from_obj(lease)).is_some();
        let now = self.clock.instant();
        let mut state = self.state();
        let before = state.beats.is_fresh(&name, now, HEARTBEAT_LIMIT);
        if exists {
            state.beats.observe(lease, now);
        } else {
            state.beats.forget(&name);
        }
        let changed = before != state.beats.is_fresh(&name, now, HEARTBEAT_LIMIT);
        drop(state);
        if changed {
            self.note_hypervisor(node);
        }
    }

    /// Some time has passed: nodes may have fallen silent. Returns when the next one would.
    pub(super) fn note_time(&self) -> Option<Instant> {
        let now = self.clock.instant();
        let mut state = self.state();
        for hypervisor in self.stores.hypervisors.state() {
            self.upsert_host(&mut state, &hypervisor);
        }
        self.spread(&mut state);
        state.beats.next_expiry(now, HEARTBEAT_LIMIT)
    }

    /// When the next node would be taken for lost, if none of them were heard of again.
    pub(super) fn next_silence(&self) -> Option<Instant> {
        self.state().beats.next_expiry(self.clock.instant(), HEARTBEAT_LIMIT)
    }

    /// A Volume was made, changed or deleted.
    pub(super) fn note_volume(&self, key: &Key) {
        let found = self.stores.volume(&key.0, &key.1);
        let mut state = self.state();
        let counted = state.volumes.contains_key(key);
        place_volume(&mut state, key, found.as_deref());
        let counts = state.volumes.contains_key(key);
        self.spread(&mut state);
        drop(state);
        if counted != counts {
            // Until it was bound it counted with its Instance.
            self.renote(|instance| {
                instance.namespace().as_deref() == Some(&key.0)
                    && (instance.spec.boot_volume.as_ref() == Some(&key.1)
                        || instance.spec.volumes.iter().any(|volume| volume.name == key.1))
            });
        }
        if found.is_some() {
            self.note_appeared(&missing::key("Volume", &key.0, &key.1));
        }
    }

    /// A Flavor was made, changed or deleted.
    pub(super) fn note_flavor(&self, name: &str) {
        if self.stores.flavor(name).is_none() {
            self.state().flavors.remove(name);
            return;
        }
        // What it gives is immutable, and its status changes with each Instance: only a new one is news.
        if self.state().flavors.insert(name.to_owned()) {
            self.renote(|instance| {
                let built = instance.status.as_ref().is_some_and(|status| status.flavor.is_some());
                !built && instance.spec.flavor == name && instance.spec.node_name.is_some()
            });
        }
        self.note_appeared(&missing::flavor_key(name));
    }

    /// Something that an Instance may have waited for was made or changed.
    pub(super) fn note_appeared(&self, what: &str) {
        let mut state = self.state();
        state.waiting.wake(&Event::Appeared(what.to_owned()));
        drop(state);
        self.woken.notify_one();
    }

    fn renote(&self, concerned: impl Fn(&Instance) -> bool) {
        for instance in self.stores.instances.state() {
            if concerned(&instance) {
                self.note_instance(&key_of(instance.as_ref()));
            }
        }
    }

    /// Makes the index equal to what the stores hold, whatever it was.
    pub fn rebuild(&self) {
        let instances = self.stores.instances.state();
        let volumes = self.stores.volumes.state();
        let now = self.clock.instant();
        let mut state = self.state();
        for lease in self.stores.leases.state() {
            state.beats.observe(&lease, now);
        }
        let hypervisors = self.stores.hypervisors.state();
        let names: HashSet<String> = hypervisors.iter().map(|h| h.name_any()).collect();
        let gone: Vec<String> = state
            .cluster
            .hosts()
            .map(|host| host.name.clone())
            .filter(|name| !names.contains(name))
            .collect();
        for name in gone {
            state.cluster.remove_host(&name);
        }
        self.rebuild_aggregates(&mut state);
        let present: HashSet<Key> = volumes.iter().map(|v| key_of(v.as_ref())).collect();
        let gone: Vec<Key> = state
            .volumes
            .keys()
            .filter(|key| !present.contains(*key))
            .cloned()
            .collect();
        for key in gone {
            place_volume(&mut state, &key, None);
        }
        for volume in volumes {
            place_volume(&mut state, &key_of(volume.as_ref()), Some(&volume));
        }
        let present: HashSet<Key> = instances.iter().map(|i| key_of(i.as_ref())).collect();
        let gone: Vec<Key> = state
            .known
            .keys()
            .filter(|key| !present.contains(*key))
            .cloned()
            .collect();
        for key in gone {
            forget(&mut state, &key);
        }
        for instance in instances {
            self.place_seen(&mut state, &key_of(instance.as_ref()), &instance);
        }
        self.rebuild_migrations(&mut state);
        state.waiting.wake(&Event::Resync);
        self.spread(&mut state);
        drop(state);
        self.woken.notify_one();
    }
}

fn forget(state: &mut State, key: &Key) {
    if let Some(known) = state.known.remove(key) {
        state.cluster.forget(&known.uid);
        state.grants.remove(&known.uid);
        stop_waiting(state, &known.uid);
        let busy = state.loads.note(known.build.as_ref(), None);
        reload(state, &busy);
    }
}

/// Tells the scheduler what these hosts are busy with.
fn reload(state: &mut State, hosts: &[String]) {
    for host in hosts {
        let Load { io_ops, failed_builds } = state.loads.of(host);
        state.cluster.set_load(host, io_ops, failed_builds);
    }
}

fn stop_waiting(state: &mut State, uid: &Uid) {
    state.waiting.remove(uid);
    state.waiters.remove(uid);
}

/// Ends the reservation that admission made for this Instance, now that it counts by itself.
///
/// Two creates of one name, or of one `generateName`, can't be told apart; they are alike in what they take, so the
/// oldest that fits goes.
fn confirm(state: &mut State, uid: &Uid, instance: &Instance, host: &str, resources: &Resources) {
    let (namespace, name) = key_of(instance);
    let generated = instance
        .metadata
        .generate_name
        .clone()
        .map(|prefix| (namespace.clone(), prefix));
    for key in std::iter::once((namespace, name)).chain(generated) {
        let Some(list) = state.pending.get_mut(&key) else {
            continue;
        };
        let same = |pending: &Pending| pending.host == host && pending.resources == *resources;
        let at = list
            .iter()
            .position(same)
            .or_else(|| list.iter().position(|pending| pending.host == host));
        let Some(at) = at else { continue };
        let pending = list.remove(at);
        if list.is_empty() {
            state.pending.remove(&key);
        }
        state.cluster.forget(&pending.review);
        let name = format!("{}/{}", instance.namespace().unwrap_or_default(), instance.name_any());
        state.cluster.rename_explanation(&pending.review, uid, &name);
        return;
    }
}

fn place_volume(state: &mut State, key: &Key, volume: Option<&Volume>) {
    let uid = volume
        .and_then(ResourceExt::uid)
        .map(|uid| Uid::from(format!("volume {uid}")));
    if let Some(before) = state
        .volumes
        .get(key)
        .filter(|before| Some(*before) != uid.as_ref())
        .cloned()
    {
        state.cluster.forget(&before);
        state.volumes.remove(key);
    }
    if let (Some(volume), Some(uid)) = (volume, uid)
        && let Some(host) = &volume.spec.node_name
    {
        let takes = takes::volume_takes(volume);
        state.cluster.place_claim(&uid, &Claim::volume(host, &takes));
        state.volumes.insert(key.clone(), uid);
    }
}

/// The key of an object in a namespace.
pub(super) fn key_of(object: &impl ResourceExt) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Where a create's reservation is kept: by name, or by `generateName` when the name is made after admission.
pub(super) fn pending_key(instance: &Instance) -> Key {
    let meta = &instance.metadata;
    let name = meta.name.clone().or_else(|| meta.generate_name.clone());
    (meta.namespace.clone().unwrap_or_default(), name.unwrap_or_default())
}
