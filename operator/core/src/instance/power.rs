//! From what a domain does to what it should do.

use std::time::Duration;

use jiff::Timestamp;
use virga_crds::{
    Condition, ConditionStatus, ObservedPower, PowerState,
    conditions::{Reason, types},
};

use super::{
    effect::Effect,
    needs::Aspect,
    seen::{Power, PowerRecord, WentOff},
};

/// How long a guest may take to shut down before its process is ended (Nova's `shutdown_timeout`).
pub const STOP_GRACE: Duration = Duration::from_mins(1);
/// A guest that still boots misses the power button, so it is pressed again (Nova's `shutdown_retry_interval`).
const STOP_AGAIN: Duration = Duration::from_secs(10);
/// How long a guest of an Instance that is being deleted may take.
pub const DELETE_GRACE: Duration = Duration::from_secs(5);
/// How often a guest that was halted by a disk error is let go on: somebody may have made room.
const RESUME_AGAIN: Duration = Duration::from_secs(30);
/// How soon to look at a guest that is shutting down, should libvirt's event get lost.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

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
}

impl Step {
    fn settled(effects: Vec<Effect>) -> Self {
        Self {
            effects,
            start: false,
            again: None,
            settled: true,
            task: "",
        }
    }

    fn act(task: &'static str, effects: Vec<Effect>) -> Self {
        Self {
            effects,
            start: false,
            again: None,
            settled: false,
            task,
        }
    }

    fn wait(task: &'static str, again: Duration) -> Self {
        Self {
            again: Some(again),
            ..Self::act(task, Vec::new())
        }
    }
}

/// The next step from an observed to a wanted power state, for a domain that exists.
///
/// `Running` is kept up: a guest that shut itself down is started again, as one that crashed is, with a pause that grows
/// (see [`PowerRecord::pause`]). Nova leaves such a guest stopped; but its power state is a record of the last command,
/// and ours is a wish that holds until it is changed, as a Pod's `restartPolicy: Always` is.
pub(super) fn step(wanted: PowerState, power: Power, record: PowerRecord, now: Timestamp) -> Step {
    match (wanted, power) {
        (PowerState::Running, Power::Running)
        | (PowerState::Paused, Power::Paused | Power::IoError | Power::Sleeping) => {
            Step::settled(remember(record, record.at_rest()))
        }
        (PowerState::Stopped, Power::Off(_)) => Step::settled(remember(record, PowerRecord::default())),

        (PowerState::Running, Power::Paused) => Step::act("resuming", vec![Effect::Resume]),
        (PowerState::Running, Power::IoError) => match record.nudged_for(now) {
            Some(ago) if ago < RESUME_AGAIN => Step::wait("resuming", RESUME_AGAIN.saturating_sub(ago)),
            _ => Step::act(
                "resuming",
                vec![Effect::RecordPower(record.with_nudge(now)), Effect::Resume],
            ),
        },
        // Only the guest's own wake-up sources end ACPI S3.
        (PowerState::Running, Power::Sleeping) => Step::act("", Vec::new()),
        (PowerState::Paused, Power::Running) => Step::act("pausing", vec![Effect::Suspend]),

        (PowerState::Running | PowerState::Paused, Power::ShuttingDown) => Step::wait("restarting", LOOK_AGAIN),
        (PowerState::Running | PowerState::Paused, Power::Off(_)) => start(wanted, record, now),

        (PowerState::Stopped, Power::Running | Power::ShuttingDown) => stop(record, now, STOP_GRACE),
        (PowerState::Stopped, Power::Paused) => {
            let mut step = stop(PowerRecord::default(), now, STOP_GRACE);
            step.effects.insert(0, Effect::Resume);
            step
        }
        // None of these hears the power button.
        (PowerState::Stopped, Power::IoError | Power::Sleeping) | (_, Power::Crashed) => {
            Step::act("stopping", vec![Effect::Destroy])
        }
    }
}

/// Starts a domain that is off, when its pause is over.
pub(super) fn start(wanted: PowerState, record: PowerRecord, now: Timestamp) -> Step {
    let pause = record.pause(now);
    if pause > Duration::ZERO {
        return Step::wait("restarting", pause);
    }
    let task = if record.starts == 0 { "starting" } else { "restarting" };
    let mut effects = vec![Effect::RecordPower(record.with_start(now)), Effect::Start];
    if wanted == PowerState::Paused {
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
        Power::Paused | Power::IoError | Power::Sleeping => ObservedPower::Paused,
        Power::Crashed | Power::Off(WentOff::Crashed) => ObservedPower::Crashed,
        Power::Off(_) => ObservedPower::Stopped,
    }
}

/// The condition `Running`.
pub(super) fn running(wanted: PowerState, power: Power, record: PowerRecord, old: &[Condition]) -> Aspect {
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
        Power::Off(_) if wanted == PowerState::Stopped => Aspect::waits(Reason::Stopped, "the domain is off, as asked"),
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
