//! Carries out what a host in maintenance needs: makes the Migrations, and tells how many Instances are left.

use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use serde_json::json;
use virga_core::{
    hypervisor::drain::{self, Guest},
    uses::{TargetKind, User},
};
use virga_crds::{
    Condition, Hypervisor, Instance,
    conditions::{Reason, types},
    managers,
};
use virga_runtime::apply::{self, Writer};

use crate::{Context, migration::has_tpm, uses::UseIndex};

/// Looks after a host that is in maintenance, or was until now: returns whether something was written then.
pub(super) async fn drain(
    context: &Context,
    index: &UseIndex,
    host: &Hypervisor,
    lost: bool,
) -> Result<Option<bool>, apply::Error> {
    if !drain::concerns(host) {
        return Ok(None);
    }
    let users = index.of(TargetKind::Node, host).await;
    let instances: Vec<_> = users.iter().filter_map(|user| bound(context, user, host)).collect();
    // One pass over all Migrations for the few hosts that are in maintenance.
    let migrations = context.stores.migrations.state();
    let guests: Vec<Guest<'_>> = instances
        .iter()
        .map(|instance| Guest {
            instance,
            migrations: migrations
                .iter()
                .map(std::convert::AsRef::as_ref)
                .filter(|migration| {
                    migration.namespace() == instance.namespace() && migration.spec.instance == instance.name_any()
                })
                .collect(),
            tpm: has_tpm(&context.stores, instance),
        })
        .collect();
    let next = drain::drain(host, &guests, lost, context.clock.now());
    let mut written = false;
    for migration in &next.begin {
        written |= context.writer.create(migration).await?.is_some();
    }
    for migration in &next.cancel {
        // One that has begun meanwhile goes on.
        written |= context.writer.delete_unchanged(migration).await?;
    }
    let status = next
        .condition
        .as_ref()
        .map_or_else(|| json!({}), |condition| json!({"conditions": [condition]}));
    let writer = Writer::new(context.client.clone(), managers::DRAIN);
    if writer.apply_status(host, &status).await?.is_some() {
        written = true;
        announce(context, host, next.condition.as_ref());
    }
    Ok(Some(written))
}

fn bound(context: &Context, user: &User, host: &Hypervisor) -> Option<std::sync::Arc<Instance>> {
    if user.kind != "Instance" {
        return None;
    }
    let instance = ObjectRef::new(&user.name).within(&user.namespace);
    let instance = context.stores.instances.get(&instance)?;
    // The index may be behind.
    let here = instance.spec.node_name.as_deref() == Some(host.name_any().as_str());
    here.then_some(instance)
}

/// What has turned is told once.
fn announce(context: &Context, host: &Hypervisor, condition: Option<&Condition>) {
    let Some(condition) = condition else { return };
    let status = host.status.as_ref();
    let before = status.and_then(|status| status.conditions.iter().find(|before| before.type_ == types::DRAINED));
    if before.is_some_and(|before| before.reason == condition.reason) {
        return;
    }
    let (events, message) = (&context.events, condition.message.clone());
    tracing::info!(
        node = host.name_any(),
        condition.reason,
        condition.message,
        "in maintenance"
    );
    if condition.reason == Reason::DrainBlocked.as_str() {
        events.warning(host, Reason::DrainBlocked.as_str(), "Draining", message);
    } else if condition.reason == Reason::Drained.as_str() {
        events.normal(host, Reason::Drained.as_str(), "Draining", message);
    } else {
        events.normal(host, Reason::Draining.as_str(), "Draining", message);
    }
}
