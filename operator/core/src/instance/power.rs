//! From what a domain does to what it should do.

use std::time::Duration;

use jiff::Timestamp;
use virga_crds::{
    Condition, ConditionStatus, Instance, ObservedPower, PowerState, RunPolicy,
    conditions::{Reason, types},
};

use super::{
    effect::Effect,
    needs::Aspect,
    reboot::{self, Asked, Due},
    seen::{Power, PowerRecord, Room, Seen, WentOff},
    soft_delete,
};

/// How long a guest may take to shut down before its process is ended (Nova's `shutdown_timeout`).
pub const STOP_GRACE: Duration = Duration::from_mins(1);
/// A guest that still boots misses the power button, so it is pressed again (Nova's `shutdown_retry_interval`).
const STOP_AGAIN: Duration = Duration::from_secs(10);
/// How long a guest of an Instance that is being deleted may take.
pub const DELETE_GRACE: Duration = Duration::from_secs(5);
/// How often a guest that was halted by a disk error is let go on: somebody may have made room.
const RESUME_AGAIN: Duration = Duration::from_secs(30);
/// How often the host's disk is looked at for room for a guest's memory.
const ROOM_AGAIN: Duration = Duration::from_mins(1);
/// How soon to look at a guest that is shutting down, should libvirt's event get lost.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What to say to those whose guest can't go on from its saved memory.
pub(super) const START_AFRESH: &str = "to start the guest afresh, set spec.powerState to Stopped, then to Running";

/// What is asked of a domain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub power: PowerState,
    pub policy: RunPolicy,
    pub reboot: Asked,
    /// The host's disk has no room for its memory.
    pub no_room: bool,
}

impl Wish {
    /// To be off.
    pub const OFF: Self = Self {
        power: PowerState::Stopped,
        policy: RunPolicy::Always,
        reboot: Asked::Nothing,
        no_room: false,
    };

    /// What the Instance's spec asks for now.
    pub fn of(instance: &Instance, seen: &Seen, now: Timestamp) -> Self {
        Self {
            power: soft_delete::power(instance, seen),
            policy: instance.spec.run_policy,
            reboot: match instance.spec.soft_delete {
                Some(_) => Asked::Nothing,
                None => reboot::asked(instance, seen.power, now),
            },
            no_room: seen.save_room != Room::Enough,
        }
    }

    /// The reboot that is to be done now. It is one of what should run: else it waits.
    fn due(&self) -> Option<Due> {
        match self.reboot {
            Asked::Due(due) if self.power == PowerState::Running => Some(due),
            _ => None,
        }
    }

    /// Whether a guest that ended by itself stays off.
    fn rests(&self, why: WentOff, record: PowerRecord) -> bool {
        // One that was asked to stop, or did not come up yet, did not end by itself.
        let by_itself = record.ran && record.stop_asked.is_none();
        by_itself
            && match self.policy {
                RunPolicy::Always => false,
                RunPolicy::OnFailure => record.halted || why == WentOff::ByGuest,
                RunPolicy::Manual => true,
            }
    }
}

/// What to do next about a domain.
#[derive(Debug)]
pub(super) struct Step {
    pub effects: Vec<Effect>,
    /// It must be started: its needs have to be met first.
    pub start: bool,
    /// When to look again.
    pub again: Option<Duration>,
    /// It does what it should.
    pub settled: bool,
    /// What is under way.
    pub task: &'static str,
    /// Why it is not as asked, where its power state doesn't say.
    pub held: Option<Aspect>,
}

impl Step {
    fn settled(effects: Vec<Effect>) -> Self {
        Self {
            settled: true,
            ..Self::act("", effects)
        }
    }

    pub fn act(task: &'static str, effects: Vec<Effect>) -> Self {
        Self {
            effects,
            start: false,
            again: None,
            settled: false,
            task,
            held: None,
        }
    }

    fn wait(task: &'static str, again: Duration) -> Self {
        Self {
            again: Some(again),
            ..Self::act(task, Vec::new())
        }
    }

    /// Nothing can be done in this state.
    fn held(why: Aspect) -> Self {
        Self {
            held: Some(why),
            ..Self::act("", Vec::new())
        }
    }
}

/// The next step from an observed to a wanted power state, for a domain that exists.
///
/// What should run is kept up, as [`RunPolicy`] says: under `Always` a guest that shut itself down is started again, as
/// one that crashed is, with a pause that grows (see [`PowerRecord::pause`]). Nova leaves such a guest stopped; but its
/// power state is a record of the last command, and ours is a wish that holds until it is changed, as a Pod's
/// `restartPolicy: Always` is.
pub(super) fn step(wish: &Wish, power: Power, record: PowerRecord, now: Timestamp) -> Step {
    let mut step = match wish.due() {
        Some(due) => rebooted(wish, due, power, record, now),
        None => toward(wish, power, record, now),
    };
    let refused = match wish.reboot {
        Asked::Later(wait) => {
            step.again = Some(step.again.map_or(wait, |again| again.min(wait)));
            None
        }
        Asked::TooFar => Some("spec.reboot.at: it is more than a year ahead, and not waited for: give an earlier time"),
        // What comes back from its Image is started anyway.
        Asked::Due(_) if wish.power == PowerState::Shelved => None,
        Asked::Due(_) if wish.power != PowerState::Running => Some(
            "spec.reboot: only what should run is rebooted: set spec.powerState to Running, or take the reboot out",
        ),
        Asked::Due(_) | Asked::Nothing => None,
    };
    if let Some(why) = refused.filter(|_| step.settled) {
        step.settled = false;
        step.held = Some(Aspect::stuck(Reason::StateForbids, why));
    }
    step
}

/// The next step of a reboot. Its last is a start, which [`start`] notes as the reboot's end.
fn rebooted(wish: &Wish, due: Due, power: Power, record: PowerRecord, now: Timestamp) -> Step {
    let begun = if due.begun { record } else { record.with_reboot(due.at) };
    match power {
        Power::Off(_) => start(wish, record, now, Effect::Start),
        Power::Saving => Step::wait("suspending", LOOK_AGAIN),
        Power::Running | Power::ShuttingDown if !due.hard => Step {
            task: "rebooting",
            ..stop(begun, now, STOP_GRACE)
        },
        _ if due.hard => {
            let mut effects = remember(record, begun);
            effects.push(match power {
                Power::Saved | Power::BrokenSave => Effect::DiscardSaved,
                _ => Effect::Destroy,
            });
            Step::act("rebooting", effects)
        }
        // The guest must hear the power button first.
        Power::IoError | Power::Sleeping => {
            let why = "spec.reboot: the guest stands still and can't be asked to shut down: it is rebooted when it runs \
                       again, or at once with type Hard";
            Step {
                held: Some(Aspect::waits(Reason::StateForbids, why)),
                ..toward(wish, power, record, now)
            }
        }
        _ => toward(wish, power, record, now),
    }
}

fn toward(wish: &Wish, power: Power, record: PowerRecord, now: Timestamp) -> Step {
    use PowerState::{Paused, Running, Shelved, Stopped, Suspended};
    if wish.power == Shelved && record.shelved.is_some() && !matches!(power, Power::Off(_)) {
        // Somebody started it: what was copied of its disk is not its disk any more.
        let record = PowerRecord {
            shelved: None,
            shelved_disk: None,
            ..record
        };
        return Step::act("shelving", vec![Effect::RecordPower(record)]);
    }
    match (wish.power, power) {
        (Running, Power::Running) | (Paused, Power::Paused | Power::IoError | Power::Sleeping) => {
            Step::settled(remember(record, record.at_rest(wish.policy != RunPolicy::Always)))
        }
        (Stopped, Power::Off(_)) | (Suspended, Power::Saved) => Step::settled(remember(record, record.cleared())),
        (Shelved, Power::Off(_)) => Step::settled(remember(
            record,
            PowerRecord {
                shelved: record.shelved,
                shelved_disk: record.shelved_disk,
                ..record.cleared()
            },
        )),

        (Running, Power::Paused) => Step::act("resuming", vec![Effect::Resume]),
        (Running | Suspended, Power::IoError) => match record.nudged_for(now) {
            Some(ago) if ago < RESUME_AGAIN => Step::wait("resuming", RESUME_AGAIN.saturating_sub(ago)),
            _ => Step::act(
                "resuming",
                vec![Effect::RecordPower(record.with_nudge(now)), Effect::Resume],
            ),
        },
        // Only the guest's own wake-up sources end ACPI S3; what to do about memory that is lost is told with the power state.
        (Running, Power::Sleeping) | (Running | Paused | Suspended, Power::BrokenSave) => Step::act("", Vec::new()),
        (Paused, Power::Running) => Step::act("pausing", vec![Effect::Suspend]),

        (Running | Paused, Power::ShuttingDown) => Step::wait("restarting", LOOK_AGAIN),
        (Running | Paused, Power::Off(why)) if wish.rests(why, record) => {
            let halted = record.halted || why == WentOff::ByGuest;
            Step::settled(remember(record, PowerRecord { halted, ..record }))
        }
        (Running | Paused, Power::Off(_)) => start(wish, record, now, Effect::Start),
        (Running | Paused, Power::Saved) => start(wish, record, now, Effect::Restore),

        (Suspended, Power::Running | Power::Paused) if wish.no_room => Step::wait("waiting", ROOM_AGAIN),
        (Suspended, Power::Running | Power::Paused) => Step::act("suspending", vec![Effect::Save]),
        (_, Power::Saving) => Step::wait("suspending", LOOK_AGAIN),
        (Suspended, Power::ShuttingDown) => Step::wait("stopping", LOOK_AGAIN),
        (Suspended, Power::Sleeping) => Step::held(Aspect::waits(
            Reason::StateForbids,
            "spec.powerState: the guest sleeps (ACPI S3), and can be suspended only when it runs",
        )),
        (Suspended, Power::Off(_)) => Step::held(Aspect::stuck(
            Reason::StateForbids,
            "spec.powerState: the domain is off, so there is no memory to save: set it to Running first, or to Stopped",
        )),

        (Stopped | Shelved, Power::Running | Power::ShuttingDown) => stop(record, now, STOP_GRACE),
        (Stopped | Shelved, Power::Paused) => {
            let mut step = stop(record.cleared(), now, STOP_GRACE);
            step.effects.insert(0, Effect::Resume);
            step
        }
        (Stopped | Shelved, Power::Saved | Power::BrokenSave) => Step::act("stopping", vec![Effect::DiscardSaved]),
        // None of these hears the power button.
        (Stopped | Shelved, Power::IoError | Power::Sleeping) | (_, Power::Crashed) => {
            Step::act("stopping", vec![Effect::Destroy])
        }
    }
}

/// Starts a domain that is off, afresh or from its saved memory, when its pause is over. A reboot that is due is done by
/// it, and waits for no pause.
pub(super) fn start(wish: &Wish, record: PowerRecord, now: Timestamp, how: Effect) -> Step {
    let due = wish.due().filter(|_| how == Effect::Start);
    let pause = record.pause(now);
    if due.is_none() && pause > Duration::ZERO {
        return Step::wait("restarting", pause);
    }
    let task = match (due, &how) {
        (Some(_), _) if record.starts > 0 => "rebooting",
        (_, Effect::Restore) => "resuming",
        _ if record.starts == 0 => "starting",
        _ => "restarting",
    };
    let record = due
        .filter(|due| !due.begun)
        .map_or(record, |due| record.with_reboot(due.at));
    let mut effects = vec![Effect::RecordPower(record.with_start(now)), how];
    if wish.power == PowerState::Paused {
        effects.push(Effect::Suspend);
    }
    Step {
        start: true,
        ..Step::act(task, effects)
    }
}

/// Asks the guest to shut down, again and again, then ends its process.
pub(super) fn stop(record: PowerRecord, now: Timestamp, grace: Duration) -> Step {
    let ask = || vec![Effect::RecordPower(record.with_stop(now)), Effect::Shutdown];
    match (record.stopping_for(now), record.nudged_for(now)) {
        (Some(stopping), _) if stopping >= grace => Step::act("stopping", vec![Effect::Destroy]),
        (Some(stopping), Some(asked)) if asked < STOP_AGAIN => Step::wait(
            "stopping",
            STOP_AGAIN.saturating_sub(asked).min(grace.saturating_sub(stopping)),
        ),
        _ => Step::act("stopping", ask()),
    }
}

fn remember(old: PowerRecord, new: PowerRecord) -> Vec<Effect> {
    if old == new {
        Vec::new()
    } else {
        vec![Effect::RecordPower(new)]
    }
}

/// What libvirt says, in the API's words.
pub(super) fn observed(power: Power) -> ObservedPower {
    match power {
        Power::Running | Power::ShuttingDown => ObservedPower::Running,
        Power::Saved | Power::BrokenSave => ObservedPower::Suspended,
        Power::Paused | Power::IoError | Power::Sleeping | Power::Saving => ObservedPower::Paused,
        Power::Crashed | Power::Off(WentOff::Crashed) => ObservedPower::Crashed,
        Power::Off(_) => ObservedPower::Stopped,
    }
}

/// The condition `Running` of a guest that stays off.
fn rests(policy: RunPolicy, why: WentOff, record: PowerRecord) -> Aspect {
    let (reason, what) = match why {
        _ if record.halted => (Reason::Stopped, "the guest shut itself down"),
        WentOff::ByGuest => (Reason::Stopped, "the guest shut itself down"),
        WentOff::Crashed => (Reason::GuestCrashed, "the guest crashed"),
        WentOff::Destroyed => (Reason::Stopped, "the domain was ended from outside"),
        WentOff::Unknown | WentOff::Failed => (Reason::Stopped, "the domain is off"),
    };
    let message = format!(
        "{what}, and stays off, as spec.runPolicy {policy:?} asks: to start it, set spec.powerState to Stopped, then to \
         Running, or ask for a reboot"
    );
    Aspect::waits(reason, message)
}

/// The condition `Running`.
pub(super) fn running(wish: &Wish, power: Power, record: PowerRecord, old: &[Condition]) -> Aspect {
    let before = old
        .iter()
        .find(|c| c.type_ == types::RUNNING && c.status == ConditionStatus::False.as_str());
    let was = |reason: Reason| before.is_some_and(|c| c.reason == reason.as_str());
    let again = || {
        record
            .next_start()
            .map_or_else(String::new, |at| format!("; it is not started again before {at:.0}"))
    };
    match power {
        Power::Running => Aspect::holds(Reason::Started, "the domain runs"),
        Power::ShuttingDown => Aspect::holds(Reason::Started, "the guest is shutting down"),
        Power::Paused => Aspect::waits(Reason::Paused, "the domain is paused"),
        Power::Sleeping => Aspect::waits(Reason::Paused, "the guest sleeps (ACPI S3), by its own doing"),
        Power::IoError => Aspect::waits(
            Reason::HypervisorError,
            "QEMU halted the guest because one of its disks failed or the host's storage is full",
        ),
        Power::Saving => Aspect::waits(Reason::Suspended, "the guest's memory is being saved"),
        Power::Saved => match before.filter(|_| was(Reason::SavedMemoryUnusable) && record.starts > 0) {
            // Why it could not go on is known only to the pass that tried.
            Some(condition) => Aspect::waits(Reason::SavedMemoryUnusable, condition.message.clone()),
            None => Aspect::waits(Reason::Suspended, "the guest's memory is saved on the host's disk"),
        },
        Power::BrokenSave => {
            let message = format!("the guest's saved memory is incomplete or damaged: {START_AFRESH}");
            Aspect {
                stuck: !matches!(wish.power, PowerState::Stopped | PowerState::Shelved),
                ..Aspect::waits(Reason::SavedMemoryUnusable, message)
            }
        }
        Power::Off(_) if matches!(wish.power, PowerState::Stopped | PowerState::Shelved) => {
            Aspect::waits(Reason::Stopped, "the domain is off, as asked")
        }
        Power::Off(_) if wish.power == PowerState::Suspended => Aspect::waits(Reason::Stopped, "the domain is off"),
        Power::Off(why) if wish.rests(why, record) => rests(wish.policy, why, record),
        Power::Off(_) if record.reboot.is_some_and(|reboot| reboot.finished.is_none()) => {
            Aspect::waits(Reason::Starting, "the guest is being rebooted, as asked")
        }
        Power::Crashed => Aspect::waits(Reason::GuestCrashed, "the guest crashed"),
        Power::Off(_) if record.starts == 0 => Aspect::waits(Reason::Starting, "the domain is being started"),
        Power::Off(WentOff::Crashed) => Aspect::waits(Reason::GuestCrashed, format!("the guest crashed{}", again())),
        Power::Off(WentOff::Destroyed) if was(Reason::GuestCrashed) => {
            Aspect::waits(Reason::GuestCrashed, format!("the guest crashed{}", again()))
        }
        Power::Off(WentOff::Failed | WentOff::Unknown) => match before.filter(|_| was(Reason::HypervisorError)) {
            // Why it could not be started is known only to the pass that tried.
            Some(condition) => Aspect::waits(Reason::HypervisorError, condition.message.clone()),
            None if matches!(power, Power::Off(WentOff::Failed)) => Aspect::waits(
                Reason::HypervisorError,
                format!("the domain could not be started{}", again()),
            ),
            None => Aspect::waits(Reason::Stopped, format!("the domain is off{}", again())),
        },
        Power::Off(WentOff::ByGuest) => {
            Aspect::waits(Reason::Stopped, format!("the guest shut itself down{}", again()))
        }
        Power::Off(WentOff::Destroyed) => {
            Aspect::waits(Reason::Stopped, format!("the domain was ended from outside{}", again()))
        }
    }
}
