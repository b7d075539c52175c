//! A host in maintenance: which Instances move next, which can't, and what to say of it.
//!
//! What moves an Instance is an ordinary Migration, which the host's operator could have made by hand. It is named for
//! the Instance and its number, so that a controller that dies after making one makes no second.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use virga_crds::{
    Condition, Hypervisor, Instance, Migration, MigrationPhase, MigrationSpec, MigrationType, PowerState, Scheduling,
    conditions::{Reason, types},
    labels,
};

use crate::{
    condition::Conditions,
    migration::{holds, is_active},
};

/// How many Instances leave a host at once: each is off while its disk is copied.
pub const AT_ONCE: usize = 2;
/// How many may wait for a host or a state beside those.
pub const MOST_WAITING: usize = 16;
/// How long an Instance whose move failed is left alone.
pub const PAUSE: SignedDuration = SignedDuration::from_mins(10);
/// Of how many the condition tells why they are still there.
const TOLD: usize = 3;
/// How much of each one's reason it tells.
const TOLD_CHARS: usize = 240;

/// An Instance on the host, and the Migrations that name it.
#[derive(Clone, Debug)]
pub struct Guest<'a> {
    /// The Instance.
    pub instance: &'a Instance,
    /// All Migrations of that name, over or not, whoever made them.
    pub migrations: Vec<&'a Migration>,
    /// It has a TPM.
    pub tpm: bool,
}

/// What is next for a host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drain {
    /// Migrations to create.
    pub begin: Vec<Migration>,
    /// Migrations of ours to delete: they have not begun, and the host is in maintenance no longer.
    pub cancel: Vec<Migration>,
    /// The condition `Drained`, while the host is in maintenance.
    pub condition: Option<Condition>,
}

/// How an Instance stands.
enum Standing {
    /// It can't be moved.
    Held(String),
    /// It is being moved.
    Moves,
    /// A Migration of it waits.
    Waits(String),
    /// A Migration of it failed not long ago.
    Failed(String),
    /// It is shelved, and leaves its host by that.
    Offloads,
    /// It may be moved now.
    Stays,
}

/// Whether there is something to decide: the host is in maintenance, or was until now.
pub fn concerns(host: &Hypervisor) -> bool {
    host.spec.scheduling == Scheduling::Maintenance
        || conditions(host)
            .iter()
            .any(|condition| condition.type_ == types::DRAINED)
}

fn conditions(host: &Hypervisor) -> &[Condition] {
    let status = host.status.as_ref();
    status.map(|status| status.conditions.as_slice()).unwrap_or_default()
}

/// What is next for a host with these Instances. `lost`: its agent is not heard of, so nothing can leave it.
pub fn drain(host: &Hypervisor, guests: &[Guest<'_>], lost: bool, now: Timestamp) -> Drain {
    if host.spec.scheduling != Scheduling::Maintenance {
        let all = guests.iter().flat_map(|guest| &guest.migrations);
        let ours = all.filter(|migration| is_ours(migration));
        let idle = ours.filter(|migration| !is_over(migration) && !is_active(migration));
        return Drain {
            cancel: idle.map(|migration| (*migration).clone()).collect(),
            ..Drain::default()
        };
    }
    let standings: Vec<Standing> = guests.iter().map(|guest| standing(guest, now)).collect();
    let count = |is: fn(&Standing) -> bool| standings.iter().filter(|standing| is(standing)).count();
    let moving = count(|standing| matches!(standing, Standing::Moves));
    let offloading = count(|standing| matches!(standing, Standing::Offloads));
    let waiting = count(|standing| matches!(standing, Standing::Waits(_)));
    let room = AT_ONCE
        .saturating_sub(moving)
        .min((AT_ONCE + MOST_WAITING).saturating_sub(waiting));
    let free = guests.iter().zip(&standings);
    let free = free.filter(|(_, standing)| matches!(standing, Standing::Stays));
    let begin: Vec<Migration> = if lost {
        Vec::new()
    } else {
        free.take(room).map(|(guest, _)| departure(guest)).collect()
    };
    let mut told = Conditions::new(conditions(host), host.metadata.generation, now);
    let (status, reason) = if guests.is_empty() {
        (true, Reason::Drained)
    } else if moving + offloading + begin.len() == 0 {
        (false, Reason::DrainBlocked)
    } else {
        (false, Reason::Draining)
    };
    told.set(types::DRAINED, status, reason, message(guests, &standings, lost));
    Drain {
        begin,
        cancel: Vec::new(),
        condition: told.get(types::DRAINED).cloned(),
    }
}

fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

fn is_ours(migration: &Migration) -> bool {
    let labels = migration.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(labels::DRAINS))
}

fn is_over(migration: &Migration) -> bool {
    let phase = migration.status.as_ref().and_then(|status| status.phase);
    phase.is_some_and(MigrationPhase::is_over)
}

fn standing(guest: &Guest<'_>, now: Timestamp) -> Standing {
    let Guest {
        instance, migrations, ..
    } = guest;
    if let Some(under_way) = migrations.iter().find(|migration| !is_over(migration)) {
        let fresh = under_way.status.as_ref().is_none_or(|status| status.phase.is_none());
        return if fresh || is_active(under_way) {
            Standing::Moves
        } else {
            Standing::Waits(format!(
                "Migration {} waits: {}",
                name(&under_way.metadata),
                said(under_way)
            ))
        };
    }
    if instance.metadata.deletion_timestamp.is_some() {
        return Standing::Held(format!("{} is being deleted", name(&instance.metadata)));
    }
    if instance.spec.power_state == PowerState::Shelved {
        return offloads(instance);
    }
    if let Some(held) = holds(instance, guest.tpm) {
        return Standing::Held(held);
    }
    let failed = |migration: &&&Migration| {
        let status = migration.status.as_ref();
        let failed = status.filter(|status| status.phase == Some(MigrationPhase::Failed));
        let finished = failed.and_then(|status| status.finished.as_ref());
        finished.is_some_and(|finished| now.duration_since(finished.0) < PAUSE)
    };
    match migrations.iter().find(failed) {
        Some(failed) => Standing::Failed(format!(
            "Migration {} failed, another follows within {} min: {}",
            name(&failed.metadata),
            PAUSE.as_mins(),
            said(failed)
        )),
        None => Standing::Stays,
    }
}

/// One that is shelved is not moved: its root disk is in an Image, or is copied into one, and its agent takes the rest away.
fn offloads(instance: &Instance) -> Standing {
    let status = instance.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let find = |kind| conditions.iter().find(|condition| condition.type_ == kind);
    match (find(types::STALLED), find(types::READY)) {
        (Some(stalled), ready) if stalled.status == "True" => Standing::Held(format!(
            "{} is to be shelved, and can't leave: {}",
            name(&instance.metadata),
            ready.map_or(stalled.message.as_str(), |ready| ready.message.as_str())
        )),
        _ => Standing::Offloads,
    }
}

fn said(migration: &Migration) -> &str {
    let status = migration.status.as_ref();
    let ready = status.and_then(|status| status.conditions.iter().find(|c| c.type_ == types::READY));
    ready.map_or("nothing is known of it yet", |ready| ready.message.as_str())
}

/// The Migration that takes it away. The number is above those of all that are known, so that none is met again.
fn departure(guest: &Guest<'_>) -> Migration {
    let Guest {
        instance, migrations, ..
    } = guest;
    let uid = instance.metadata.uid.clone().unwrap_or_default();
    let stem = format!("drain-{uid}");
    let number = |migration: &&Migration| {
        name(&migration.metadata)
            .strip_prefix(&stem)?
            .strip_prefix('-')?
            .parse()
            .ok()
    };
    let last: u32 = migrations.iter().filter_map(number).max().unwrap_or_default();
    let spec = MigrationSpec {
        instance: name(&instance.metadata).to_owned(),
        kind: MigrationType::Cold,
        target: None,
    };
    let mut migration = Migration::new(&format!("{stem}-{}", last.saturating_add(1)), spec);
    migration.metadata.namespace.clone_from(&instance.metadata.namespace);
    migration.metadata.labels = Some([(labels::DRAINS.to_owned(), uid)].into());
    migration
}

fn message(guests: &[Guest<'_>], standings: &[Standing], lost: bool) -> String {
    if guests.is_empty() {
        return "no Instance is left here".into();
    }
    let count = |is: fn(&Standing) -> bool| standings.iter().filter(|standing| is(standing)).count();
    let moving = count(|standing| matches!(standing, Standing::Moves | Standing::Offloads | Standing::Stays));
    let mut message = if guests.len() == 1 {
        "1 Instance is left".to_owned()
    } else {
        format!("{} Instances are left", guests.len())
    };
    let (to_move, stuck) = (moving, guests.len() - moving);
    let _ = write!(message, ": {to_move} on the way or next, {stuck} not");
    if lost {
        message.push_str("; none can leave while its agent is not heard of");
    }
    let why = guests
        .iter()
        .zip(standings)
        .filter_map(|(guest, standing)| match standing {
            Standing::Held(why) | Standing::Waits(why) | Standing::Failed(why) => Some((guest, why)),
            Standing::Moves | Standing::Offloads | Standing::Stays => None,
        });
    for (guest, why) in why.take(TOLD) {
        let why: String = why.chars().take(TOLD_CHARS).collect();
        let namespace = guest.instance.metadata.namespace.as_deref().unwrap_or_default();
        let _ = write!(message, "; in {namespace}: {why}");
    }
    if stuck > TOLD {
        let _ = write!(message, "; and {} more", stuck - TOLD);
    }
    message
}

#[cfg(test)]
mod tests;
