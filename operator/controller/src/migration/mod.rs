//! Migrations: finds the target, follows what both agents say, and binds the Instance to its new host.
//!
//! The agents move the bytes. The controller is the only one that switches `spec.nodeName`, and does it when the source
//! has let go.

mod tpm;

use std::{future::Future, sync::Arc, time::Duration};

use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Preconditions},
    runtime::{Controller, reflector::ObjectRef},
};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use virga_core::{
    hypervisor::transfer_address,
    migration::{self, Act, Facts, Next, is_active},
};
use virga_crds::{
    Instance, Migration, MigrationPhase, MigrationStatus,
    conditions::{Reason, types},
    finalizers,
};
use virga_runtime::{
    apply,
    class::{Class, Classify, is_gone},
    reconcile::{self, Done, Reconcile, Settings},
};

pub use tpm::has_tpm;

use crate::{
    Context,
    hypervisor::Lost,
    scheduling::{Decision, bind, explain},
    stores::Watches,
};

/// How soon to look again at one that is not over: for hosts that come and go.
const AGAIN: Duration = Duration::from_secs(5);
/// How often to look whether one that is over was kept for long enough.
const KEPT_CHECK: Duration = Duration::from_hours(1);
const CALL: Duration = Duration::from_secs(10);

/// Why a Migration did not get on.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Write(#[from] apply::Error),
    #[error("binding the Instance to its new host")]
    Bind(#[from] bind::Error),
    #[error("deleting a Migration that is over")]
    Delete(#[source] Box<kube::Error>),
    #[error("deleting a Migration that is over: no answer within {} s", CALL.as_secs())]
    TimedOut,
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::Write(error) => error.class(),
            Self::Bind(_) | Self::Delete(_) | Self::TimedOut => Class::Transient,
        }
    }
}

struct Migrations {
    context: Arc<Context>,
    lost: Arc<Lost>,
}

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    lost: Arc<Lost>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let store = watches.migrations.store();
    let of_instance = move |instance: Arc<Instance>| -> Vec<ObjectRef<Migration>> {
        let migrations = store.state();
        let its = migrations.iter().filter(|migration| {
            migration.namespace() == instance.namespace() && migration.spec.instance == instance.name_any()
        });
        its.map(|migration| ObjectRef::from_obj(migration.as_ref())).collect()
    };
    let controller = Controller::for_shared_stream(watches.migrations.applied(), watches.migrations.store())
        .watches_shared_stream(watches.instances.touched(), of_instance);
    let metrics = context.metrics.clone();
    reconcile::run(
        Migrations { context, lost },
        controller,
        Settings::default(),
        metrics,
        stop,
    )
}

impl Reconcile for Migrations {
    type Kind = Migration;
    type Error = Error;

    fn name(&self) -> &'static str {
        "migration"
    }

    async fn reconcile(&self, live: Arc<Migration>) -> Result<Done, Error> {
        let namespace = live.namespace().unwrap_or_default();
        let stores = &self.context.stores;
        let instance = stores.instance(&namespace, &live.spec.instance);
        let source = instance
            .as_ref()
            .and_then(|instance| instance.spec.node_name.as_deref());
        let source = source.and_then(|source| stores.hypervisors.get(&ObjectRef::new(source)));
        let source_address = source.and_then(|source| transfer_address(&source));
        let other = self.other(&live);
        let target = live.status.as_ref().and_then(|status| status.target.as_deref());
        let facts = Facts {
            instance: instance.as_deref(),
            other: other.as_deref(),
            source_address: source_address.as_deref(),
            target_lost: target.is_some_and(|target| self.lost.is_lost(target)),
            tpm: instance.as_deref().is_some_and(|instance| has_tpm(stores, instance)),
        };
        let now = self.context.clock.now();
        let Next { act, status } = migration::plan(&live, facts, now);
        let status = match (act, &instance, &source_address) {
            (Act::Place, Some(instance), Some(address)) => self.place(&live, instance, address),
            (Act::Bind, Some(instance), _) => {
                if let Some(target) = target {
                    bind::bind(&self.context.client, instance, target, None).await?;
                    let (namespace, name) = (&namespace, instance.name_any());
                    tracing::info!(
                        kind = "Instance",
                        namespace,
                        name,
                        node = target,
                        "bound to its new host"
                    );
                }
                status
            }
            (Act::Place | Act::Nothing | Act::Bind, ..) => status,
            (Act::Delete, ..) => {
                self.delete(&live).await?;
                return Ok(Done::changed());
            }
        };
        self.tell(&live, instance.as_deref(), &status).await
    }
}

impl Migrations {
    /// Another Migration of the Instance that is under way, or that waits and came before.
    fn other(&self, mine: &Migration) -> Option<String> {
        let age = |migration: &Migration| {
            let created = migration.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (!is_active(migration), created, migration.name_any())
        };
        let is_over = |migration: &Migration| {
            let phase = migration.status.as_ref().and_then(|status| status.phase);
            phase.is_some_and(MigrationPhase::is_over)
        };
        let others = self.context.stores.migrations.state();
        let rival = others.iter().find(|other| {
            other.namespace() == mine.namespace()
                && other.spec.instance == mine.spec.instance
                && other.uid() != mine.uid()
                && !is_over(other)
                && age(other) < age(mine)
        });
        rival.map(|other| other.name_any())
    }

    fn place(&self, live: &Migration, instance: &Instance, address: &str) -> MigrationStatus {
        let now = self.context.clock.now();
        let explanation = match self.context.scheduler.place_migration(live, instance) {
            Decision::Placed(placement) => {
                return migration::placed(live, instance, address, &placement.host, now);
            }
            Decision::Refused(refusal) => explain::refused(&refusal, None),
            Decision::Obstructed(obstacles) => explain::obstructed(&obstacles),
            Decision::Closed => {
                let message = "it waits for a leading controller";
                return migration::waits(live, Reason::WaitingForLeader, message, now);
            }
        };
        migration::waits(live, explanation.reason, &explanation.message, now)
    }

    async fn tell(
        &self,
        live: &Migration,
        instance: Option<&Instance>,
        status: &MigrationStatus,
    ) -> Result<Done, Error> {
        let writer = &self.context.writer;
        let before = live.status.as_ref().and_then(|status| status.phase);
        let over = status.phase.is_some_and(MigrationPhase::is_over);
        let begins = status.phase == Some(MigrationPhase::Preparing) && before != status.phase;
        if begins && let Some(instance) = instance {
            // It is there before the agents begin: what is on its way is not deleted before it has arrived.
            let owned = json!({"metadata": {
                "finalizers": [finalizers::CONTROLLER],
                "ownerReferences": [{
                    "apiVersion": "virga.dev/v1alpha1", "kind": "Instance",
                    "name": instance.name_any(), "uid": instance.uid(),
                }],
            }});
            let (namespace, name) = (live.namespace(), live.name_any());
            let held = writer.apply_fields(Some(live), namespace.as_deref(), &name, owned);
            if let Err(error) = held.await {
                self.context.scheduler.unreserve_migration(live);
                return Err(error.into());
            }
        }
        let written = match writer.apply_status(live, status).await {
            Ok(written) => written.is_some(),
            Err(error) => {
                if begins {
                    self.context.scheduler.unreserve_migration(live);
                }
                return Err(error.into());
            }
        };
        if written && before != status.phase {
            self.announce(live, status);
        }
        if over || (before.is_none() && live.metadata.deletion_timestamp.is_some()) {
            let released = writer.remove_finalizer(live, finalizers::CONTROLLER).await?.is_some();
            return Ok(Done::changed_if(written || released).again_in(KEPT_CHECK));
        }
        Ok(Done::changed_if(written).again_in(AGAIN))
    }

    fn announce(&self, live: &Migration, status: &MigrationStatus) {
        let Some(ready) = status.conditions.iter().find(|c| c.type_ == types::READY) else {
            return;
        };
        let (namespace, name) = (live.namespace().unwrap_or_default(), live.name_any());
        tracing::info!(kind = "Migration", namespace, name, phase = ?status.phase, ready.message, "went on");
        let events = &self.context.events;
        let known = Reason::ALL.iter().find(|reason| reason.as_str() == ready.reason);
        let reason = known.copied().unwrap_or(Reason::Migrating).as_str();
        if matches!(status.phase, Some(MigrationPhase::Failed | MigrationPhase::Aborting)) {
            events.warning(live, reason, "Migrating", ready.message.clone());
        } else {
            events.normal(live, reason, "Migrating", ready.message.clone());
        }
    }

    async fn delete(&self, live: &Migration) -> Result<(), Error> {
        let api = Api::<Migration>::namespaced(self.context.client.clone(), &live.namespace().unwrap_or_default());
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: live.uid(),
            resource_version: None,
        });
        match timeout(CALL, api.delete(&live.name_any(), &params)).await {
            Err(_) => Err(Error::TimedOut),
            Ok(Err(error)) if is_gone(&error) => Ok(()),
            Ok(Err(error)) => Err(Error::Delete(Box::new(error))),
            Ok(Ok(_)) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
