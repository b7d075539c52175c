//! What of a domain is not as it was defined? Somebody with access to the host changed it, or it waits for its next start.
//!
//! What Virga defined and is gone or changed is put right. What was added by hand is told of and left: it is not ours to
//! take away.

use std::time::Duration;

use virga_crds::{Bytes, ConditionStatus, DriftPolicy, Instance, conditions::Reason};

use super::{Asked, DiskKind, NicKind, Pace, Plugged, Present, step::Step};
use crate::instance::{effect::Effect, needs::Aspect, resize::ResizeRecord, seen::Seen};

/// How soon a definition that did not come out as asked is written again.
const DEFINE_AGAIN: Duration = Duration::from_mins(10);

/// Adds what is to be told, and the definition anew where that helps. `differences` are those in devices of ours.
pub(super) fn tell(
    instance: &Instance,
    seen: &Seen,
    present: &Present,
    pace: Pace,
    mut differences: Vec<String>,
    step: &mut Step,
) {
    differences.extend(added(present));
    let shape = |side: &Plugged| changed(instance, seen, side);
    let defined = shape(&present.defined);
    let repair = instance.spec.drift_policy == DriftPolicy::Repair && !matches!(pace, Pace::Wait(_));
    let foreign = !added_to(&present.defined).is_empty();
    let asked = seen.devices.asked.get(&Asked::Definition);
    let mut reason = Reason::ChangedByHand;
    if !defined.is_empty() && repair && !foreign && asked.is_none_or(|ago| *ago >= DEFINE_AGAIN) {
        step.effects.push(Effect::Redefine);
    } else if !defined.is_empty() {
        differences.extend(defined.iter().map(|what| format!("the definition has {what}")));
        if let Some(ago) = asked {
            step.again(DEFINE_AGAIN.saturating_sub(*ago));
        }
    }
    if let Some(running) = &present.running {
        let later = shape(running);
        if !later.is_empty() && differences.is_empty() {
            reason = Reason::RestartPending;
        }
        let tells = later
            .iter()
            .map(|what| format!("the guest runs with {what} until its next start"));
        differences.extend(tells);
    }
    if !differences.is_empty() {
        step.drifted = Some(Aspect {
            status: ConditionStatus::True,
            ..Aspect::waits(reason, differences.join("; "))
        });
    }
}

/// What is not ours, in both descriptions.
fn added(present: &Present) -> Vec<String> {
    let mut all = added_to(&present.defined);
    for what in present.running.iter().flat_map(added_to) {
        if !all.contains(&what) {
            all.push(what);
        }
    }
    all
}

fn added_to(side: &Plugged) -> Vec<String> {
    let disks = side.disks.iter().filter_map(|disk| match &disk.kind {
        DiskKind::Foreign(path) => Some(format!(
            "disk {} ({path}) was added by hand and is left alone",
            disk.target
        )),
        _ => None,
    });
    let nics = side.interfaces.iter().filter(|nic| nic.kind == NicKind::Foreign);
    let nics = nics.map(|nic| format!("interface {} was added by hand and is left alone", nic.mac));
    disks.chain(nics).collect()
}

/// What of a machine's size and name is not as it was built. While it is being resized that is for the resize to say.
fn changed(instance: &Instance, seen: &Seen, side: &Plugged) -> Vec<String> {
    let mut all = Vec::new();
    let resize = seen.root.record.resize.as_ref();
    let flavor = seen
        .flavor
        .as_ref()
        .filter(|_| !resize.is_some_and(ResizeRecord::is_half_done));
    if let Some(flavor) = flavor {
        if side.vcpus != u32::from(flavor.vcpus) {
            all.push(format!("{} CPUs instead of {}", side.vcpus, flavor.vcpus));
        }
        // QEMU rounds up.
        if mebibytes(side.memory) != mebibytes(flavor.memory) {
            all.push(format!("{} of memory instead of {}", side.memory, flavor.memory));
        }
    }
    let meta = &instance.metadata;
    let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
    let title = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
    if side.title.as_ref() != Some(&title) {
        all.push(format!(
            "the title {:?} instead of {title:?}",
            side.title.as_deref().unwrap_or_default()
        ));
    }
    if !side.disks.iter().any(|disk| disk.kind == DiskKind::Root) {
        all.push("no root disk".into());
    }
    all
}

fn mebibytes(memory: Bytes) -> u64 {
    memory.0.div_ceil(1 << 20)
}
