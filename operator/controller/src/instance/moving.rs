//! A size that the host has no room for is found on another one: the Instance moves there, by a Migration like any other, and
//! is resized when it has come.

use kube::ResourceExt as _;
use virga_core::migration::{forbids, is_active};
use virga_crds::{Instance, Migration, MigrationPhase, MigrationSpec, MigrationType, labels};
use virga_runtime::apply::Error;

use crate::{Context, migration::has_tpm, scheduling::resizes};

/// Whether an Instance moves to where there is room.
pub(super) enum Moving {
    /// This Migration moves it.
    By(String),
    /// Somebody deleted the Migration of this name, and does not want it.
    Cancelled(String),
    /// It does not, and why.
    Not(String),
}

/// The Migration that moves an Instance for the resize that it asks for now: made, if `elsewhere` says that there is a host
/// with room, and it was not tried for this very wish before. One that is deleted before it is over is not made again.
pub(super) async fn moving(context: &Context, instance: &Instance, elsewhere: bool) -> Result<Moving, Error> {
    let namespace = instance.namespace().unwrap_or_default();
    let name = name(instance);
    if is_cancelled(context, instance, &name).await? {
        return Ok(Moving::Cancelled(name));
    }
    let migrations = context.stores.migrations.state();
    let under_way = migrations.iter().find(|found| {
        found.namespace().as_ref() == Some(&namespace) && found.spec.instance == instance.name_any() && !is_over(found)
    });
    if let Some(under_way) = under_way {
        return Ok(Moving::By(under_way.name_any()));
    }
    if context.stores.migration(&namespace, &name).is_some() {
        let why = format!("the Migration {name} did not move it: it says why; delete it to have it moved again");
        return Ok(Moving::Not(why));
    }
    if !elsewhere {
        return Ok(Moving::Not("no other host has".into()));
    }
    if let Some(why) = forbids(instance, has_tpm(&context.stores, instance)) {
        return Ok(Moving::Not(format!("another host has, but {why}")));
    }
    let mut wanted = Migration::new(
        &name,
        MigrationSpec {
            instance: instance.name_any(),
            kind: MigrationType::Cold,
            target: None,
        },
    );
    wanted.metadata.namespace = Some(namespace);
    wanted.metadata.labels = instance.uid().map(|uid| [(labels::RESIZES.to_owned(), uid)].into());
    let made = context.writer.create(&wanted).await?;
    if made.is_some() {
        let (namespace, instance) = (instance.namespace(), instance.name_any());
        tracing::info!(kind = "Migration", namespace, name, instance, "moves it for a resize");
    }
    Ok(Moving::By(name))
}

/// Whether the Migration of this wish was deleted before it was over: it is on its way out, or was told to move the Instance
/// and is gone.
async fn is_cancelled(context: &Context, instance: &Instance, name: &str) -> Result<bool, Error> {
    let namespace = instance.namespace().unwrap_or_default();
    let told = resizes::told(instance).filter(|told| Some(told.generation) == instance.metadata.generation);
    let named = told.filter(|told| told.migration.as_deref() == Some(name));
    match (context.stores.migration(&namespace, name), named) {
        (Some(found), _) => Ok(found.metadata.deletion_timestamp.is_some()),
        (None, Some(told)) if told.cancelled => Ok(true),
        (None, Some(_)) => {
            // One that was made just now may not have come by the watch yet.
            let uid = instance.uid().unwrap_or_default();
            let there = context.writer.labelled::<Migration>(labels::RESIZES, &uid).await?;
            Ok(!there.iter().any(|found| found.name_any() == name))
        }
        (None, None) => Ok(false),
    }
}

/// Takes back the Migration of a wish that is no more, or that its own host has room for by now, as long as nothing of it has
/// begun. `waits`: the present wish has no room yet.
pub(super) async fn take_back(context: &Context, instance: &Instance, waits: bool) -> Result<(), Error> {
    if !instance.annotations().contains_key(labels::RESIZE) {
        // None was ever asked for: not worth a look at all Migrations.
        return Ok(());
    }
    let (uid, current) = (instance.uid(), name(instance));
    let migrations = context.stores.migrations.state();
    let idle = migrations.iter().filter(|found| {
        uid.is_some() && found.labels().get(labels::RESIZES) == uid.as_ref() && !is_over(found) && !is_active(found)
    });
    for stale in idle.filter(|found| !waits || found.name_any() != current) {
        // One that has begun meanwhile goes on.
        context.writer.delete_unchanged(stale.as_ref()).await?;
    }
    Ok(())
}

fn is_over(migration: &Migration) -> bool {
    let phase = migration.status.as_ref().and_then(|status| status.phase);
    phase.is_some_and(MigrationPhase::is_over)
}

/// One a wish: what failed is not tried again and again.
fn name(instance: &Instance) -> String {
    let uid = instance.uid().unwrap_or_default();
    let generation = instance.metadata.generation.unwrap_or_default();
    format!("resize-{uid}-{generation}")
}
