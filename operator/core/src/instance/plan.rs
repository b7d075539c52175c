use std::time::Duration;

use jiff::Timestamp;
use virga_crds::{
    Instance, InstanceStatus, PowerState,
    conditions::{Reason, types},
    finalizers,
};

use super::{
    deeds,
    devices::{self, Pace},
    effect::{Effect, Plan},
    health, leaving,
    needs::{self, Aspect, Need},
    power::{self, DELETE_GRACE, Step, Wish},
    resize,
    root::{self, Work},
    seen::{Domain, Power, Room, Seen},
    shelve,
    status::{Story, tell},
    validate,
};

/// How soon to ask again when libvirt can't be reached, should the event of its return get lost.
const LIBVIRT_AGAIN: Duration = Duration::from_secs(10);

/// What an agent does about an Instance next. Pure and total: any observed state has an answer.
///
/// Carrying the effects out and planning again, until there are none, ends where spec wants it, from wherever it began.
/// Nothing is started twice, and nothing that should run is ended.
pub fn plan(instance: &Instance, seen: &Seen, now: Timestamp) -> Plan {
    seen.snapshotting.keeps(next(instance, seen, now))
}

fn next(instance: &Instance, seen: &Seen, now: Timestamp) -> Plan {
    if instance.spec.node_name.as_deref() != Some(seen.node.as_str()) {
        return Plan::default();
    }
    let deleting = instance.metadata.deletion_timestamp.is_some();
    if let Some(leaving) = seen.leaving.as_ref().filter(|leaving| leaving.offered || !deleting) {
        return leaving::plan(instance, seen, leaving, now);
    }
    if deleting {
        return delete(instance, seen, now);
    }
    match &seen.domain {
        Domain::Unreachable(message) => Plan {
            again: Some(LIBVIRT_AGAIN),
            ..unusable(
                instance,
                seen,
                now,
                Aspect::unknown(Reason::LibvirtUnavailable, message),
            )
        },
        Domain::Foreign(message) => unusable(instance, seen, now, Aspect::waits(Reason::HypervisorError, message)),
        Domain::Absent => build(instance, seen, now),
        Domain::Defined(power) => keep(instance, seen, *power, now),
    }
}

/// Whether the machine was built before: then its root disk holds data, and is never made anew.
fn built(instance: &Instance) -> bool {
    instance.status.as_ref().is_some_and(|status| status.flavor.is_some())
}

/// Nothing can be done about the domain now.
fn unusable(instance: &Instance, seen: &Seen, now: Timestamp, running: Aspect) -> Plan {
    let story = Story {
        running,
        ..Story::assumed(instance)
    };
    Plan {
        status: Some(tell(instance, seen, story, now)),
        ..Plan::default()
    }
}

/// There is no domain: make what it needs, then define and start it.
fn build(instance: &Instance, seen: &Seen, now: Timestamp) -> Plan {
    let built = built(instance);
    let problems = validate(instance);
    if !problems.is_empty() {
        return unusable(
            instance,
            seen,
            now,
            Aspect::stuck(Reason::Invalid, problems.to_string()),
        );
    }
    let untouched = (!built || shelve::comes_back(instance)) && !seen.root_disk && !seen.seed;
    if untouched && let Some(rejected) = rejected(instance, seen, now) {
        return rejected;
    }
    if let Some(plan) = shelve::absent(instance, seen, now) {
        return plan;
    }
    if built && let Some(exchanged) = exchanged(instance, seen, now) {
        return exchanged;
    }
    let storage = needs::storage(instance, seen, built);
    let network = needs::network_to_tell(instance, seen);
    let flavor = match &seen.flavor {
        None if !built => Some(Aspect::waits(
            Reason::FlavorNotFound,
            format!("spec.flavor: there is no Flavor {:?}: create it", instance.spec.flavor),
        )),
        _ => None,
    };
    let met = storage.met && network.met && flavor.is_none();
    let mut effects = storage.effects;
    let mut again = None;
    let mut task = "";
    if met {
        if !seen.seed {
            effects.push(Effect::WriteSeed);
        }
        effects.push(Effect::Define);
        let wish = Wish::of(instance, seen, now);
        // What was never started has no memory to be suspended with.
        if matches!(wish.power, PowerState::Running | PowerState::Paused) {
            let step = power::start(&wish, seen.power, now, Effect::Start);
            if step.start {
                effects.extend(network.effects);
                effects.extend(step.effects);
            }
            again = step.again;
            task = step.task;
        }
    }
    if task.is_empty() {
        task = effects.first().map_or("waiting", Effect::task);
    }
    let story = Story {
        storage: flavor.unwrap_or(storage.aspect),
        network: network.aspect,
        running: Aspect::waits(Reason::Starting, "the domain is not defined yet"),
        settled: false,
        task,
        ..Story::assumed(instance)
    };
    Plan {
        status: Some(tell(instance, seen, story, now)),
        effects,
        again,
    }
}

/// There is no domain, and its root disk is being exchanged, or is to be. That ends with a domain.
fn exchanged(instance: &Instance, seen: &Seen, now: Timestamp) -> Option<Plan> {
    let wish = Wish::of(instance, seen, now);
    let (step, held) = match root::work(instance, seen, &wish, None, now) {
        Work::Now(step) => (step, None),
        // Without its root disk nothing else can be done, and what is to be exchanged may be why there is no domain.
        Work::Waits { why, effects, again }
            if !effects.is_empty() || !seen.root_disk && instance.spec.image.is_some() =>
        {
            let task = effects.first().map_or("waiting", Effect::task);
            (
                Step {
                    again,
                    ..Step::act(task, effects)
                },
                why,
            )
        }
        Work::Waits { .. } | Work::Nothing => return None,
    };
    let story = Story {
        held,
        task: step.task,
        ..Story::assumed(instance)
    };
    Some(Plan {
        status: Some(tell(instance, seen, story, now)),
        effects: step.effects,
        again: step.again,
    })
}

/// The host has no room: it says so before it has made anything, and leaves the Instance to the scheduling queue.
///
/// Once said, it stays said until the Instance is bound anew, so that it is never built here while it is being bound
/// elsewhere. To bind it here again, the controller takes this node out of `status.rejectedBy`.
fn rejected(instance: &Instance, seen: &Seen, now: Timestamp) -> Option<Plan> {
    let old = instance.status.clone().unwrap_or_default();
    let already = old.rejected_by.contains(&seen.node);
    let message = match &seen.room {
        Room::Short(message) => message.clone(),
        Room::Enough if already => old
            .conditions
            .iter()
            .find(|c| c.type_ == types::SCHEDULED)
            .map(|c| c.message.clone())
            .unwrap_or_default(),
        Room::Enough => return None,
    };
    let story = Story {
        scheduled: Some(Aspect::waits(Reason::HostRejected, message)),
        running: Aspect::waits(Reason::HostRejected, "another host is looked for"),
        ..Story::assumed(instance)
    };
    Some(Plan {
        status: Some(tell(instance, seen, story, now)),
        ..Plan::default()
    })
}

/// There is a domain: bring it to the root disk and the power state that are asked for.
fn keep(instance: &Instance, seen: &Seen, power: Power, now: Timestamp) -> Plan {
    let wish = Wish::of(instance, seen, now);
    let mut running = match power {
        Power::IoError => health::halted(instance, &seen.health.disk_faults, root::is_rescued(seen)),
        _ => power::running(&wish, power, seen.power, old_conditions(instance)),
    };
    let mut exchanging = false;
    let (mut step, waiting) = match root::work(instance, seen, &wish, Some(power), now) {
        Work::Now(step) => {
            exchanging = true;
            if matches!(power, Power::Off(_)) {
                running = Aspect::waits(Reason::Starting, resize::off_because(step.task));
            }
            (step, Work::Nothing)
        }
        work => (power::step(&wish, power, seen.power, now), work),
    };
    let pace = if exchanging {
        Pace::Wait("it is done when the guest may be started again")
    } else {
        pace(power, &step)
    };
    let mut devices = devices::step(instance, seen, pace);
    let mut storage = needs::disks_created();
    let mut network = needs::ports_plugged();
    if step.start {
        let seen = devices::needed(instance, seen);
        // A domain is defined only over a root disk, so a missing one is a lost one.
        let disks = needs::storage(instance, &seen, true);
        let ports = needs::network(instance, &seen);
        step = start_when_met(step, &disks, &ports);
        (storage, network) = (disks.aspect, ports.aspect);
    }
    if !devices.effects.is_empty() && step.start {
        // First the definition, then the start.
        step.effects.clear();
        step.again = None;
    }
    if storage.is_true() {
        storage = devices.storage.take().unwrap_or(storage);
    }
    if network.is_true() {
        network = devices.network.take().unwrap_or(network);
    }
    step.settled &= storage.is_true() && network.is_true();
    step.again = step.again.into_iter().chain(devices.again).min();
    if step.task.is_empty() && !step.settled {
        step.task = devices.effects.first().map_or("", Effect::task);
    }
    step.effects.append(&mut devices.effects);
    let mut step = beside(waiting, step);
    let shelve = shelve::told(instance, seen, step.settled, now);
    shelve::go_on(instance, seen, shelve.as_ref(), &mut step, now);
    // What is done once to a guest is done to one that is as asked otherwise.
    let next = if step.settled {
        deeds::next(instance, seen, power, now)
    } else {
        deeds::Next::default()
    };
    if let Some(first) = next.effects.first() {
        step.task = first.task();
    }
    step.settled &= next.effects.is_empty() && next.held.is_none();
    step.held = step.held.or(next.held);
    step.effects.extend(next.effects);
    step.again = [step.again, next.again].into_iter().flatten().min();
    let story = Story {
        scheduled: None,
        drifted: devices.drifted,
        storage,
        network,
        running,
        held: step.held.or_else(|| no_room(instance, seen, power)),
        settled: step.settled,
        task: step.task,
        deleting: false,
        shelve,
    };
    Plan {
        status: Some(tell(instance, seen, story, now)),
        effects: step.effects,
        again: step.again,
    }
}

/// What is done about the root disk while the machine is as it is. What has to wait is told where all else is as asked.
fn beside(work: Work, mut step: Step) -> Step {
    let Work::Waits { why, effects, again } = work else {
        return step;
    };
    if step.settled
        && let Some(why) = why
    {
        step.settled = false;
        step.held = Some(why);
    }
    if step.task.is_empty() {
        step.task = effects.first().map_or("", Effect::task);
    }
    step.again = step.again.into_iter().chain(again).min();
    step.effects.splice(..0, effects);
    step
}

/// What of a domain's devices can be changed now.
fn pace(power: Power, step: &Step) -> Pace {
    match power {
        Power::Off(_) => Pace::Off,
        Power::Running | Power::Paused if step.task.is_empty() => Pace::On,
        Power::Saved | Power::BrokenSave | Power::Saving => {
            Pace::Wait("the guest's memory is saved with the devices that it had; it is done when the guest runs again")
        }
        Power::IoError => Pace::Wait("the guest was halted by a disk error; it is done when the guest runs again"),
        _ => Pace::Wait("it is done when what is under way is"),
    }
}

/// Its memory is to be saved and there is no room for it.
fn no_room(instance: &Instance, seen: &Seen, power: Power) -> Option<Aspect> {
    let wanted = instance.spec.power_state == PowerState::Suspended && matches!(power, Power::Running | Power::Paused);
    match &seen.save_room {
        Room::Short(message) if wanted => Some(Aspect::waits(Reason::PoolFull, message)),
        _ => None,
    }
}

fn start_when_met(step: Step, disks: &Need, ports: &Need) -> Step {
    if !(disks.met && ports.met) {
        return Step {
            effects: Vec::new(),
            task: "waiting",
            ..step
        };
    }
    let effects = ports.effects.iter().cloned().chain(step.effects).collect();
    Step { effects, ..step }
}

/// Stops it, then takes everything of it away.
fn delete(instance: &Instance, seen: &Seen, now: Timestamp) -> Plan {
    let mut again = None;
    let mut effects = Vec::new();
    let mut gone = true;
    match &seen.domain {
        // Whether its guest runs can't be known, so its disks can't be taken away.
        Domain::Unreachable(_) => {
            gone = false;
            again = Some(LIBVIRT_AGAIN);
        }
        Domain::Absent | Domain::Foreign(_) => {}
        Domain::Defined(Power::Off(_) | Power::Saved | Power::BrokenSave) => effects.push(Effect::Undefine),
        Domain::Defined(Power::Running | Power::ShuttingDown) => {
            let step = power::stop(seen.power, now, DELETE_GRACE);
            gone = step.effects == [Effect::Destroy];
            effects.extend(step.effects);
            again = step.again.map(|again| again.min(DELETE_GRACE));
            if gone {
                effects.push(Effect::Undefine);
            }
        }
        Domain::Defined(Power::Paused | Power::IoError | Power::Sleeping | Power::Crashed | Power::Saving) => {
            effects.extend([Effect::Destroy, Effect::Undefine]);
        }
    }
    let finalizer = instance
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == finalizers::AGENT);
    if gone {
        if !instance.spec.interfaces.is_empty() {
            effects.push(Effect::ReleasePorts);
        }
        effects.push(Effect::RemoveFiles);
        if finalizer {
            effects.push(Effect::RemoveFinalizer);
        } else {
            effects.retain(|effect| finalizer_free(effect, seen));
        }
    }
    Plan {
        // What is about to be gone is not reported on.
        status: (!gone).then(|| tell(instance, seen, deletion_story(instance, seen), now)),
        effects,
        again,
    }
}

/// Without our finalizer the Instance may stay for a while after everything here is gone: then there is nothing to do.
fn finalizer_free(effect: &Effect, seen: &Seen) -> bool {
    match effect {
        Effect::ReleasePorts | Effect::RemoveFiles => {
            seen.root_disk || seen.seed || matches!(seen.domain, Domain::Defined(_))
        }
        _ => true,
    }
}

fn deletion_story(instance: &Instance, seen: &Seen) -> Story {
    let running = match &seen.domain {
        Domain::Unreachable(message) => Aspect::unknown(Reason::LibvirtUnavailable, message),
        Domain::Foreign(message) => Aspect::waits(Reason::HypervisorError, message),
        Domain::Absent => Aspect::waits(Reason::Deleting, "the domain is gone"),
        Domain::Defined(power) => power::running(&Wish::OFF, *power, seen.power, old_conditions(instance)),
    };
    Story {
        running,
        task: "stopping",
        deleting: true,
        ..Story::assumed(instance)
    }
}

pub(super) fn old_conditions(instance: &Instance) -> &[virga_crds::Condition] {
    instance
        .status
        .as_ref()
        .map_or(&[], |status: &InstanceStatus| &status.conditions)
}

#[cfg(test)]
mod tests;
