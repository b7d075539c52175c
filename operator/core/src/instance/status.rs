use jiff::Timestamp;
use virga_crds::{
    Address, Condition, ConditionStatus, Instance, InstanceState, InstanceStatus, ObservedPower, PowerState,
    ShelveStatus,
    conditions::{Reason, types},
};

use super::{
    actions,
    decision::decision,
    deeds, devices,
    effect::{Effect, Note},
    health,
    needs::Aspect,
    plan::old_conditions,
    power, reboot, rebuild, resize,
    root::{is_rescued, root_image},
    seen::{Domain, Failure, InterfaceUse, Power, Seen},
    shelve, soft_delete,
};
use crate::condition::{Conditions, Progress};

/// The hosts that are remembered as having no room: as many as the schema takes.
const MAX_REJECTED: usize = 16;

/// How an Instance stands, before it is put into the API's fields.
pub(super) struct Story {
    /// Absent: bound to this node.
    pub scheduled: Option<Aspect>,
    pub storage: Aspect,
    pub network: Aspect,
    pub running: Aspect,
    /// What of the domain was changed by hand, or waits for its next start; absent when nothing is.
    pub drifted: Option<Aspect>,
    /// What keeps it from being as asked, where the others can't say.
    pub held: Option<Aspect>,
    pub settled: bool,
    /// What is under way; empty when nothing is.
    pub task: &'static str,
    pub deleting: bool,
    /// How far its shelving is.
    pub shelve: Option<ShelveStatus>,
}

impl Story {
    /// Disks and ports as they were told of before: nothing was found out about them on this pass.
    pub fn assumed(instance: &Instance) -> Self {
        let old = old_conditions(instance);
        let before = |kind: &str, fallback: Aspect| {
            old.iter().find(|c| c.type_ == kind).map_or(fallback, |c| Aspect {
                status: match c.status.as_str() {
                    "True" => ConditionStatus::True,
                    "False" => ConditionStatus::False,
                    _ => ConditionStatus::Unknown,
                },
                reason: reason_of(c),
                message: c.message.clone(),
                stuck: false,
            })
        };
        let unknown = || Aspect::unknown(Reason::Building, "not looked at yet");
        let drifted = old.iter().any(|c| c.type_ == types::DRIFTED);
        Self {
            scheduled: None,
            storage: before(types::STORAGE_READY, unknown()),
            network: before(types::NETWORK_READY, unknown()),
            running: Aspect::waits(Reason::Starting, "the domain is not defined yet"),
            drifted: drifted.then(|| before(types::DRIFTED, unknown())),
            held: None,
            settled: false,
            task: "",
            deleting: false,
            shelve: instance.status.as_ref().and_then(|status| status.shelve.clone()),
        }
    }
}

/// A condition's reason; `Building` for one that is none of ours.
pub(super) fn reason_of(condition: &Condition) -> Reason {
    let known = Reason::ALL.iter().find(|reason| reason.as_str() == condition.reason);
    known.copied().unwrap_or(Reason::Building)
}

/// The status that tells the story.
pub(super) fn tell(instance: &Instance, seen: &Seen, story: Story, now: Timestamp) -> InstanceStatus {
    let old = instance.status.clone().unwrap_or_default();
    let rejected = story.scheduled.is_some();
    let scheduled = story
        .scheduled
        .unwrap_or_else(|| Aspect::holds(Reason::Bound, format!("bound to {}", seen.node)));
    let aspects = [
        (types::SCHEDULED, scheduled),
        (types::STORAGE_READY, story.storage),
        (types::NETWORK_READY, story.network),
        (types::RUNNING, story.running),
    ];
    let broken = !story.settled && aspects.iter().any(|(_, aspect)| aspect.stuck);
    let (progress, reason, message) = match story.held.filter(|_| !broken && !story.settled && !story.deleting) {
        Some(held) if held.stuck => (Progress::Stuck, held.reason, held.message),
        Some(held) => (Progress::Working, held.reason, held.message),
        None => ready(&aspects, story.settled, story.deleting, story.task),
    };
    let mut conditions = Conditions::new(&old.conditions, instance.metadata.generation, now);
    for (kind, aspect) in &aspects {
        conditions.set(kind, aspect.status, aspect.reason, aspect.message.clone());
    }
    if let Some(drifted) = story.drifted {
        conditions.set(types::DRIFTED, drifted.status, drifted.reason, drifted.message);
    }
    conditions.set_ready(progress, reason, message.clone());

    let mut rejected_by = old.rejected_by.clone();
    if rejected && !rejected_by.contains(&seen.node) {
        rejected_by.push(seen.node.clone());
        let excess = rejected_by.len().saturating_sub(MAX_REJECTED);
        rejected_by.drain(..excess);
    }
    let (usage, guest) = health::told(&seen.domain, &seen.health, &old);
    let soft_delete = soft_delete::told(instance, story.settled, &old, now);
    let exists = matches!(seen.domain, Domain::Defined(_));
    let mut status = InstanceStatus {
        observed_generation: instance.metadata.generation,
        state: Some(if story.deleting {
            InstanceState::Deleting
        } else if broken {
            InstanceState::Error
        } else if soft_delete.is_some() {
            InstanceState::SoftDeleted
        } else if shelve::is_told(instance, seen, story.shelve.as_ref()) {
            InstanceState::Shelved
        } else {
            state(instance, seen, &old, story.settled)
        }),
        task: (progress == Progress::Working && !story.task.is_empty()).then(|| story.task.into()),
        power_state: power_state(seen, &old),
        flavor: resize::built(&seen.root.record)
            .or_else(|| old.flavor.clone())
            .or_else(|| seen.flavor.clone().filter(|_| exists)),
        host: (!rejected).then(|| seen.node.clone()),
        addresses: addresses(seen, &old),
        image: exists
            .then(|| root_image(instance, &seen.root.record).cloned())
            .flatten()
            .or_else(|| old.image.clone()),
        reboot: reboot::told(seen.power).or(old.reboot),
        rebuild: rebuild::told(&seen.root.record).or(old.rebuild),
        resize: resize::told(&seen.root.record).or(old.resize),
        topology: seen.topology.clone(),
        rejected_by,
        scheduling: decision(instance).or(old.scheduling),
        actions: Vec::new(),
        usage,
        guest,
        crash_dump: deeds::told(seen.deeds.crash_dump).or(old.crash_dump),
        admin_password: deeds::told(seen.deeds.admin_password).or(old.admin_password),
        shelve: story.shelve,
        soft_delete,
        conditions: conditions.into_vec(),
    };
    status.actions = actions::told(instance, &status, progress, &message, now);
    status
}

fn ready(aspects: &[(&str, Aspect)], settled: bool, deleting: bool, task: &str) -> (Progress, Reason, String) {
    if deleting {
        return (
            Progress::Working,
            Reason::Deleting,
            "the Instance is being deleted".into(),
        );
    }
    if settled {
        return (Progress::Done, Reason::AsSpecified, "as specified".into());
    }
    let progress = if aspects.iter().any(|(_, aspect)| aspect.stuck) {
        Progress::Stuck
    } else {
        Progress::Working
    };
    // What needs the user comes before what goes on by itself.
    let first = aspects
        .iter()
        .map(|(_, aspect)| aspect)
        .find(|aspect| aspect.stuck)
        .or_else(|| {
            let known_false = |aspect: &&Aspect| aspect.status == ConditionStatus::False;
            aspects.iter().map(|(_, aspect)| aspect).find(known_false)
        })
        // What can't be told of the domain explains why nothing else can.
        .or_else(|| {
            aspects
                .iter()
                .rev()
                .map(|(_, aspect)| aspect)
                .find(|aspect| !aspect.is_true())
        });
    match first {
        Some(aspect) => (progress, aspect.reason, aspect.message.clone()),
        None => (progress, Reason::Building, format!("under way: {task}")),
    }
}

fn state(instance: &Instance, seen: &Seen, old: &InstanceStatus, settled: bool) -> InstanceState {
    let first_time = matches!(old.state, None | Some(InstanceState::Building));
    match &seen.domain {
        Domain::Defined(_) if is_rescued(seen) => InstanceState::Rescued,
        Domain::Defined(_) if resize::awaits_confirmation(instance, seen) => InstanceState::Resized,
        Domain::Defined(Power::Running | Power::ShuttingDown | Power::Saving) => InstanceState::Active,
        Domain::Defined(Power::Saved | Power::BrokenSave) => InstanceState::Suspended,
        Domain::Defined(Power::Paused | Power::IoError | Power::Sleeping) => InstanceState::Paused,
        Domain::Defined(Power::Off(_) | Power::Crashed)
            if first_time
                && !settled
                && matches!(instance.spec.power_state, PowerState::Running | PowerState::Paused) =>
        {
            InstanceState::Building
        }
        Domain::Defined(Power::Off(_) | Power::Crashed) => InstanceState::Stopped,
        Domain::Absent | Domain::Foreign(_) => InstanceState::Building,
        Domain::Unreachable(_) => old.state.unwrap_or(InstanceState::Building),
    }
}

fn power_state(seen: &Seen, old: &InstanceStatus) -> Option<ObservedPower> {
    match &seen.domain {
        Domain::Defined(power) => Some(power::observed(*power)),
        Domain::Unreachable(_) => old.power_state.map(|_| ObservedPower::Unknown),
        Domain::Absent | Domain::Foreign(_) => None,
    }
}

/// From the Ports; those of a Port that is not seen now stay as they were told of.
fn addresses(seen: &Seen, old: &InstanceStatus) -> Vec<Address> {
    let of = |interface: &super::seen::Interface| {
        if let InterfaceUse::Ready(addresses) = &interface.state {
            return addresses.clone();
        }
        let known = old.addresses.iter().filter(|a| a.network == interface.network);
        known.cloned().collect()
    };
    let named = seen.interfaces.iter().chain(&seen.sub_ports).flat_map(of);
    named.chain(devices::leaving_addresses(seen, old)).collect()
}

/// The status after an effect failed: the plan's own, with what went wrong.
pub fn after_failure(
    instance: &Instance,
    status: &InstanceStatus,
    effect: &Effect,
    failure: &Failure,
    now: Timestamp,
) -> InstanceStatus {
    let kind = match effect {
        Effect::PullImage { .. }
        | Effect::CreateRootDisk { .. }
        | Effect::WriteSeed
        | Effect::AttachVolume { .. }
        | Effect::DetachVolume { .. } => Some(types::STORAGE_READY),
        Effect::EnsureNetwork { .. } | Effect::AttachInterface { .. } | Effect::DetachInterface { .. } => {
            Some(types::NETWORK_READY)
        }
        // A guest whose memory could not be saved runs on, as one does that is to be rebuilt or rescued, and one whose
        // definition could not be put right.
        Effect::Save
        | Effect::Offload
        | Effect::SetPassword
        | Effect::InjectNmi
        | Effect::RecordDeeds(_)
        | Effect::CreateNextRoot { .. }
        | Effect::WriteNextSeed
        | Effect::DropNextRoot
        | Effect::CreateRescueDisk { .. }
        | Effect::RemoveRescueDisk
        | Effect::RecordRoot(_)
        | Effect::GrowRoot { .. }
        | Effect::Redefine
        | Effect::MarkInLine => None,
        _ => Some(types::RUNNING),
    };
    let mut conditions = Conditions::new(old_conditions(instance), instance.metadata.generation, now);
    for old in &status.conditions {
        let carried = !matches!(old.type_.as_str(), types::READY | types::RECONCILING | types::STALLED);
        if carried && Some(old.type_.as_str()) != kind {
            let value = match old.status.as_str() {
                "True" => ConditionStatus::True,
                "False" => ConditionStatus::False,
                _ => ConditionStatus::Unknown,
            };
            conditions.set(&old.type_, value, reason_of(old), old.message.clone());
        }
    }
    let failure = &unusable_memory(effect, failure);
    let value = if failure.reason == Reason::LibvirtUnavailable {
        ConditionStatus::Unknown
    } else {
        ConditionStatus::False
    };
    if let Some(kind) = kind {
        conditions.set(kind, value, failure.reason, failure.message.clone());
    }
    let deleting = instance.metadata.deletion_timestamp.is_some();
    let progress = if failure.stuck {
        Progress::Stuck
    } else {
        Progress::Working
    };
    conditions.set_ready(progress, failure.reason, failure.message.clone());
    InstanceStatus {
        state: if failure.stuck && !deleting {
            Some(InstanceState::Error)
        } else {
            status.state
        },
        task: status.task.clone().filter(|_| !failure.stuck),
        actions: actions::after_failure(&status.actions, failure.stuck, &failure.message, now),
        conditions: conditions.into_vec(),
        ..status.clone()
    }
}

/// Whatever keeps a guest from going on from its saved memory, the user is told the way out.
fn unusable_memory(effect: &Effect, failure: &Failure) -> Failure {
    if *effect != Effect::Restore || failure.reason != Reason::HypervisorError {
        return failure.clone();
    }
    Failure {
        reason: Reason::SavedMemoryUnusable,
        message: format!("{}; it is tried again; {}", failure.message, power::START_AFRESH),
        stuck: failure.stuck,
    }
}

/// What a user should hear of between two statuses: one event a change, never one a pass.
pub fn notes(old: Option<&InstanceStatus>, new: &InstanceStatus) -> Vec<Note> {
    let before = old.map_or(&[][..], |status| &status.conditions);
    let mut notes: Vec<Note> = Vec::new();
    for condition in &new.conditions {
        let reason = reason_of(condition);
        let same = before
            .iter()
            .any(|c| c.type_ == condition.type_ && c.reason == condition.reason && c.status == condition.status);
        let Some(warning) = worth_telling(&condition.type_, reason).filter(|_| !same) else {
            continue;
        };
        notes.push(Note {
            warning,
            reason,
            action: "Running",
            message: condition.message.clone(),
        });
    }
    notes.extend(actions::notes(old, new));
    notes
}

/// Whether a condition's change is an event, and whether that is a warning.
fn worth_telling(kind: &str, reason: Reason) -> Option<bool> {
    match kind {
        types::RUNNING => match reason {
            Reason::Started | Reason::Stopped | Reason::Paused | Reason::Suspended => Some(false),
            Reason::GuestCrashed
            | Reason::HypervisorError
            | Reason::DiskFull
            | Reason::DiskFailed
            | Reason::LibvirtUnavailable
            | Reason::SavedMemoryUnusable
            | Reason::Invalid => Some(true),
            _ => None,
        },
        types::SCHEDULED => (reason == Reason::HostRejected).then_some(true),
        types::DRIFTED => Some(reason == Reason::ChangedByHand),
        types::STORAGE_READY | types::NETWORK_READY => match reason {
            Reason::DisksCreated
            | Reason::PortsPlugged
            | Reason::Building
            | Reason::ImagePulling
            | Reason::WaitingForConsumer
            | Reason::NetworkNotReady => None,
            _ => Some(true),
        },
        _ => None,
    }
}
