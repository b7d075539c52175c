use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use virga_crds::{
    IncomingState, Instance, InstanceState, Migration, MigrationPhase, MigrationStatus, OutgoingState, PowerState,
    conditions::{Reason, types},
};

use crate::condition::{Conditions, Progress};

/// How long a Migration that is over is kept.
pub const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// What deciding about a Migration takes, beside itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The Instance that it names.
    pub instance: Option<&'a Instance>,
    /// Another Migration of the Instance that is under way, or came before.
    pub other: Option<&'a str>,
    /// Where the agent of the Instance's host is reached.
    pub source_address: Option<&'a str>,
    /// The target's agent is not heard of.
    pub target_lost: bool,
    /// The Instance has a TPM.
    pub tpm: bool,
}

/// What the controller does about a Migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing but to tell.
    Nothing,
    /// Look for a host, and tell of that instead.
    Place,
    /// Bind the Instance to the target.
    Bind,
    /// Delete it: its story was told for long enough.
    Delete,
}

/// What is next.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    /// What to do.
    pub act: Act,
    /// The controller's own part of the status.
    pub status: MigrationStatus,
}

/// Whether the guest may be on its way: then it is not deleted before that is over.
pub fn is_active(migration: &Migration) -> bool {
    let phase = phase(migration);
    phase != MigrationPhase::Pending && !phase.is_over()
}

fn phase(migration: &Migration) -> MigrationPhase {
    let status = migration.status.as_ref();
    status.and_then(|status| status.phase).unwrap_or_default()
}

/// What is next for a Migration. Total: any state has an answer.
pub fn plan(migration: &Migration, facts: Facts<'_>, now: Timestamp) -> Next {
    match phase(migration) {
        MigrationPhase::Pending => pending(migration, facts, now),
        MigrationPhase::Preparing | MigrationPhase::Transferring => under_way(migration, facts, now),
        MigrationPhase::Switching => switching(migration, facts, now),
        MigrationPhase::Aborting => aborting(migration, now),
        MigrationPhase::Completed | MigrationPhase::Failed => over(migration, now),
    }
}

/// The status of one that has a target now. Its agents begin.
pub fn placed(
    migration: &Migration,
    instance: &Instance,
    source_address: &str,
    target: &str,
    now: Timestamp,
) -> MigrationStatus {
    let message = format!("the guest is shut down, to be moved to {target}");
    let status = MigrationStatus {
        instance_uid: instance.metadata.uid.clone(),
        source: instance.spec.node_name.clone(),
        target: Some(target.into()),
        source_address: Some(source_address.into()),
        started: Some(Time(whole_seconds(now))),
        ..own(migration)
    };
    let phase = MigrationPhase::Preparing;
    told(
        migration,
        status,
        phase,
        Progress::Working,
        Reason::Migrating,
        &message,
        now,
    )
}

/// The status of one that waits.
pub fn waits(migration: &Migration, reason: Reason, message: &str, now: Timestamp) -> MigrationStatus {
    let (status, phase) = (own(migration), MigrationPhase::Pending);
    told(migration, status, phase, Progress::Working, reason, message, now)
}

fn pending(migration: &Migration, facts: Facts<'_>, now: Timestamp) -> Next {
    let nothing = |status| Next {
        act: Act::Nothing,
        status,
    };
    let wait = |reason, message: &str| nothing(waits(migration, reason, message, now));
    let name = &migration.spec.instance;
    if let Some(other) = facts.other {
        let message = format!("Migration {other} of {name} is under way: wait for its end, or delete it");
        return nothing(failed(migration, Reason::MigrationUnderWay, &message, now));
    }
    let Some(instance) = facts.instance else {
        let message = format!("spec.instance: there is no Instance {name:?}: create it");
        return wait(Reason::InstanceNotFound, &message);
    };
    if instance.metadata.deletion_timestamp.is_some() {
        let message = format!("{name} is being deleted");
        return nothing(failed(migration, Reason::MigrationFailed, &message, now));
    }
    let Some(source) = &instance.spec.node_name else {
        return wait(Reason::StateForbids, &format!("{name} is on no host yet"));
    };
    if migration.spec.target.as_ref() == Some(source) {
        let message = format!("spec.target: {name} is on {source} already: name another host, or none");
        return nothing(failed(migration, Reason::Invalid, &message, now));
    }
    if let Some(message) = forbids(instance, facts.tpm) {
        return wait(Reason::StateForbids, &message);
    }
    if facts.source_address.is_none() {
        let message = format!(
            "the agent on {source} serves nothing to other hosts: its log says why, and its Hypervisor shows a \
             status.transferPort when it does"
        );
        return wait(Reason::NoValidHost, &message);
    }
    Next {
        act: Act::Place,
        status: own(migration),
    }
}

/// What holds an Instance on its host, whatever its state. `tpm`: it has a TPM.
pub fn holds(instance: &Instance, tpm: bool) -> Option<String> {
    let name = instance.metadata.name.as_deref().unwrap_or_default();
    let spec = &instance.spec;
    if let Some(volume) = &spec.boot_volume {
        return Some(format!(
            "{name} boots from the Volume {volume}, which is on its host and does not move with it: it stays there"
        ));
    }
    if !spec.volumes.is_empty() {
        let all: Vec<&str> = spec.volumes.iter().map(|volume| volume.name.as_str()).collect();
        return Some(format!(
            "{name} has volumes ({}), which are on its host and do not move with it: take them out of its spec first",
            all.join(", ")
        ));
    }
    tpm.then(|| {
        format!(
            "{name} has a TPM, whose secrets are on its host only and would be lost: create another Instance there, and move \
             what is on its disk by its own means"
        )
    })
}

/// Why an Instance can't be moved as it is; Nova migrates what is active or stopped, and nothing else. `tpm`: it has a TPM.
pub fn forbids(instance: &Instance, tpm: bool) -> Option<String> {
    if let Some(held) = holds(instance, tpm) {
        return Some(held);
    }
    let name = instance.metadata.name.as_deref().unwrap_or_default();
    let spec = &instance.spec;
    let status = instance.status.as_ref();
    let state = status.and_then(|status| status.state);
    let stands = matches!(state, Some(InstanceState::Active | InstanceState::Stopped));
    let wished = matches!(spec.power_state, PowerState::Running | PowerState::Stopped);
    if stands && wished {
        return None;
    }
    let state = state.map_or_else(|| "not built yet".to_owned(), |state| format!("{state:?}"));
    Some(format!(
        "{name} is {state} and its powerState {:?}: it is moved when it is Active or Stopped",
        spec.power_state
    ))
}

fn under_way(migration: &Migration, facts: Facts<'_>, now: Timestamp) -> Next {
    let status = migration.status.clone().unwrap_or_default();
    let target = status.target.clone().unwrap_or_default();
    if target_owns(&status) {
        return switched(migration, now);
    }
    let outgoing = status.outgoing.as_ref();
    let refused = outgoing.filter(|outgoing| outgoing.state == OutgoingState::Refused);
    let revoked = outgoing.is_some_and(|outgoing| outgoing.state == OutgoingState::Revoked);
    let rejected = status.incoming.as_ref();
    let rejected = rejected.filter(|incoming| incoming.state == IncomingState::Rejected);
    let said = |message: &Option<String>| message.clone().unwrap_or_else(|| "no details were given".into());
    let gone = facts.instance.is_none_or(|instance| {
        instance.metadata.deletion_timestamp.is_some() || instance.metadata.uid != status.instance_uid
    });
    let why = if migration.metadata.deletion_timestamp.is_some() {
        Some("the Migration was deleted".to_owned())
    } else if gone {
        Some("the Instance was deleted".to_owned())
    } else if let Some(refused) = refused {
        Some(said(&refused.message))
    } else if let Some(rejected) = rejected {
        Some(format!("{target}: {}", said(&rejected.message)))
    } else if revoked {
        Some("the source has taken its offer back".to_owned())
    } else {
        facts.target_lost.then(|| format!("{target} is not heard of any more"))
    };
    if let Some(why) = why {
        let phase = MigrationPhase::Aborting;
        let status = told(
            migration,
            own(migration),
            phase,
            Progress::Working,
            Reason::MigrationFailed,
            &why,
            now,
        );
        return Next {
            act: Act::Nothing,
            status,
        };
    }
    let offered = outgoing.is_some_and(|outgoing| outgoing.state == OutgoingState::Offered);
    let (phase, message) = if offered {
        let message = format!("{target} fetches and verifies the guest's disk");
        (MigrationPhase::Transferring, message)
    } else {
        let message = format!("the guest is shut down, to be moved to {target}");
        (MigrationPhase::Preparing, message)
    };
    let (working, reason) = (Progress::Working, Reason::Migrating);
    Next {
        act: Act::Nothing,
        status: told(migration, own(migration), phase, working, reason, &message, now),
    }
}

/// Whether the source has let go, as either side says.
fn target_owns(status: &MigrationStatus) -> bool {
    let outgoing = status.outgoing.as_ref().map(|outgoing| outgoing.state);
    let incoming = status.incoming.as_ref().map(|incoming| incoming.state);
    matches!(outgoing, Some(OutgoingState::LetGo | OutgoingState::Removed))
        || matches!(incoming, Some(IncomingState::Owned | IncomingState::Landed))
}

fn switched(migration: &Migration, now: Timestamp) -> Next {
    let target = migration.status.as_ref().and_then(|status| status.target.clone());
    let message = format!("{} has the guest's disk and is bound to it", target.unwrap_or_default());
    let phase = MigrationPhase::Switching;
    let (working, reason) = (Progress::Working, Reason::Migrating);
    Next {
        act: Act::Nothing,
        status: told(migration, own(migration), phase, working, reason, &message, now),
    }
}

fn switching(migration: &Migration, facts: Facts<'_>, now: Timestamp) -> Next {
    let status = migration.status.clone().unwrap_or_default();
    let same = |instance: &&Instance| instance.metadata.uid == status.instance_uid;
    let Some(instance) = facts.instance.filter(same) else {
        return Next {
            act: Act::Nothing,
            status: failed(migration, Reason::MigrationFailed, "the Instance was deleted", now),
        };
    };
    if instance.spec.node_name != status.target {
        return Next {
            act: Act::Bind,
            ..switched(migration, now)
        };
    }
    let landed = status.incoming.as_ref();
    if landed.is_none_or(|incoming| incoming.state != IncomingState::Landed) {
        return switched(migration, now);
    }
    let message = format!("the Instance is on {}", status.target.unwrap_or_default());
    let done = MigrationStatus {
        finished: Some(Time(whole_seconds(now))),
        ..own(migration)
    };
    let phase = MigrationPhase::Completed;
    Next {
        act: Act::Nothing,
        status: told(migration, done, phase, Progress::Done, Reason::Migrated, &message, now),
    }
}

fn aborting(migration: &Migration, now: Timestamp) -> Next {
    let status = migration.status.clone().unwrap_or_default();
    if target_owns(&status) {
        return switched(migration, now);
    }
    let ready = status.conditions.iter().find(|c| c.type_ == types::READY);
    let why = ready.map_or_else(String::new, |ready| ready.message.clone());
    let outgoing = status.outgoing.as_ref().map(|outgoing| outgoing.state);
    let kept = matches!(outgoing, Some(OutgoingState::Revoked | OutgoingState::Refused));
    let status = if kept {
        failed(migration, Reason::MigrationFailed, &why, now)
    } else {
        let phase = MigrationPhase::Aborting;
        let (working, reason) = (Progress::Working, Reason::MigrationFailed);
        told(migration, own(migration), phase, working, reason, &why, now)
    };
    Next {
        act: Act::Nothing,
        status,
    }
}

fn over(migration: &Migration, now: Timestamp) -> Next {
    let status = own(migration);
    let finished = status.finished.as_ref();
    let old = finished.is_some_and(|finished| now.duration_since(finished.0) >= KEPT);
    let act = if old && migration.metadata.deletion_timestamp.is_none() {
        Act::Delete
    } else {
        Act::Nothing
    };
    Next { act, status }
}

fn failed(migration: &Migration, reason: Reason, message: &str, now: Timestamp) -> MigrationStatus {
    let status = MigrationStatus {
        finished: Some(Time(whole_seconds(now))),
        ..own(migration)
    };
    let phase = MigrationPhase::Failed;
    told(migration, status, phase, Progress::Stuck, reason, message, now)
}

/// What the controller has said before, without what the agents say.
fn own(migration: &Migration) -> MigrationStatus {
    MigrationStatus {
        outgoing: None,
        incoming: None,
        ..migration.status.clone().unwrap_or_default()
    }
}

fn told(
    migration: &Migration,
    status: MigrationStatus,
    phase: MigrationPhase,
    progress: Progress,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> MigrationStatus {
    let mut conditions = Conditions::new(&status.conditions, migration.metadata.generation, now);
    conditions.set_ready(progress, reason, message);
    MigrationStatus {
        observed_generation: migration.metadata.generation,
        phase: Some(phase),
        conditions: conditions.into_vec(),
        ..status
    }
}

/// As the API keeps it.
fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests;
