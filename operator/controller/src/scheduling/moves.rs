//! Where does an Instance move to? Any host but its own that passes every filter; what it takes there is held until it is
//! there, while it still counts where it is.

use std::{collections::BTreeSet, sync::Arc};

use kube::ResourceExt;
use virga_core::migration::is_active;
use virga_crds::{Instance, Migration};
use virga_scheduler::{Asker, Claim, OnlyHosts, Uid};

use super::{
    index::key_of,
    request,
    state::{Decision, Key, Scheduler, State},
    takes::{self, Held},
};

impl Scheduler {
    /// A host that an Instance can move to. What it takes there is reserved; [`Self::note_migration`] holds it from when
    /// the Migration names the host.
    pub fn place_migration(&self, migration: &Migration, instance: &Instance) -> Decision {
        let uid = claim_uid(migration);
        let request =
            request::request(&uid.to_string(), instance, &self.stores, self.clock.now()).map(|mut request| {
                request.excluded_hosts.extend(instance.spec.node_name.clone());
                // One that waits to be resized moves with the size that it has, and is resized there.
                request.resources = takes::larger(request.resources, takes::taken(instance, &self.stores).resources);
                if let Some(target) = &migration.spec.target {
                    request.only_hosts = Some(OnlyHosts {
                        hosts: BTreeSet::from([target.clone()]),
                        reason: format!("spec.target is {target}"),
                    });
                }
                request
            });
        self.decide(request, |state, request, now| {
            let placement = state.cluster.schedule(request, now);
            state.cluster.asked_by(&request.uid, Asker::Queue);
            placement
        })
    }

    /// The Migration's target could not be written: the room there is free again.
    pub fn unreserve_migration(&self, migration: &Migration) {
        self.unreserve(&claim_uid(migration).to_string());
    }

    /// A Migration was made, changed or deleted.
    pub(super) fn note_migration(&self, key: &Key) {
        let found = self.stores.migration(&key.0, &key.1);
        let mut state = self.state();
        self.hold(&mut state, key, found.as_ref());
        self.spread(&mut state);
    }

    /// Makes what is held for Migrations equal to what the stores hold.
    pub(super) fn rebuild_migrations(&self, state: &mut State) {
        let mut keys: BTreeSet<Key> = state.migrations.keys().cloned().collect();
        keys.extend(
            self.stores
                .migrations
                .state()
                .iter()
                .map(|found| key_of(found.as_ref())),
        );
        for key in keys {
            self.hold(state, &key, self.stores.migration(&key.0, &key.1).as_ref());
        }
    }

    fn hold(&self, state: &mut State, key: &Key, migration: Option<&Arc<Migration>>) {
        let uid = migration.map(|migration| claim_uid(migration));
        if let Some(before) = state.migrations.get(key).filter(|before| Some(*before) != uid.as_ref()) {
            let before = before.clone();
            state.cluster.forget(&before);
            state.migrations.remove(key);
        }
        let (Some(migration), Some(uid)) = (migration, uid) else {
            return;
        };
        let status = migration.status.as_ref().filter(|_| is_active(migration));
        let target = status.and_then(|status| status.target.as_deref());
        let instance = self.stores.instance(&key.0, &migration.spec.instance);
        match (target, instance) {
            (Some(target), Some(instance)) if instance.spec.node_name.as_deref() != Some(target) => {
                let held = Held::moving(&instance, &self.stores, state.cluster.profile());
                let claim = Claim {
                    // Those that it has are its present host's.
                    pinning: None,
                    ..held.claim(target)
                };
                state.cluster.place_claim(&uid, &claim);
                state.migrations.insert(key.clone(), uid);
            }
            _ => {
                if state.migrations.remove(key).is_some() {
                    state.cluster.forget(&uid);
                }
            }
        }
    }
}

fn claim_uid(migration: &Migration) -> Uid {
    Uid::from(format!("migration {}", migration.uid().unwrap_or_default()))
}
