//! What does the leader do about an Instance that is shelved, or comes back? It makes the Image that the agent asks for,
//! removes it when the machine is on a host again, takes the binding away when the agent has left nothing, and speaks for
//! the Instance while no agent does.

use jiff::Timestamp;
use virga_crds::{
    Image, Instance, InstanceState, InstanceStatus, ObservedPower,
    conditions::{Reason, types},
};

use super::{
    NO_HOST,
    image::{round, shelved_image},
    is_asked, known, shelved, where_it_is,
};
use crate::condition::{Conditions, Progress};

/// What the leader does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shelving {
    /// The Image to make.
    pub create: Option<Box<Image>>,
    /// Whether the Image that is there is to be deleted.
    pub delete: bool,
    /// Whether the Instance has left its host.
    pub unbind: bool,
    /// What is told of an Instance that has no host.
    pub status: Option<Box<InstanceStatus>>,
}

/// Whether an Instance is shelved and on no host. It waits for one only when it is to come back.
pub fn is_shelved_away(instance: &Instance) -> bool {
    instance.spec.node_name.is_none() && shelved(instance).is_some()
}

/// What the leader does about an Instance; `image` is the one of its root disk's name, if there is one.
pub fn shelving(instance: &Instance, image: Option<&Image>, now: Timestamp) -> Shelving {
    let mut next = Shelving::default();
    if instance.metadata.deletion_timestamp.is_some() {
        // The Image goes with its owner.
        return next;
    }
    let told = known(instance);
    let asked = is_asked(instance);
    if let Some(image) = image.filter(|image| image.metadata.deletion_timestamp.is_none())
        && let Some(of) = round(image, instance)
    {
        // Only while its agent says that the machine is on its host can an Image be one too many.
        next.delete = told.is_none_or(|told| told.stopped_at.0 != of) && is_on_its_host(instance);
    }
    if let Some(told) = told {
        let wanted = asked && told.shelved_at.is_none() && instance.spec.boot_volume.is_none();
        if wanted && image.is_none() && instance.spec.node_name.is_some() {
            next.create = Some(Box::new(shelved_image(instance, told.stopped_at.0)));
        }
        next.unbind = asked && told.offloaded_at.is_some() && instance.spec.node_name.is_some();
    }
    if asked && is_shelved_away(instance) {
        next.status = Some(Box::new(status(instance, image, now)));
    }
    next
}

fn is_on_its_host(instance: &Instance) -> bool {
    let node = instance.spec.node_name.as_ref();
    instance.status.as_ref().is_some_and(|status| {
        let defined = status.power_state.is_some_and(|power| power != ObservedPower::Unknown);
        node.is_some() && status.host.as_ref() == node && defined
    })
}

/// What is told of an Instance that is on no host, and is to be so.
fn status(instance: &Instance, image: Option<&Image>, now: Timestamp) -> InstanceStatus {
    let old = instance.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let mut conditions = Conditions::new(old, instance.metadata.generation, now);
    conditions.set(types::SCHEDULED, false, Reason::Offloaded, NO_HOST);
    conditions.set(
        types::RUNNING,
        false,
        Reason::Stopped,
        "the guest is off: it is shelved",
    );
    let held = held(instance, image);
    let disk = shelved(instance).map(where_it_is).unwrap_or_default();
    match &held {
        Some((reason, message)) if *reason != Reason::StateForbids => {
            conditions.set(types::STORAGE_READY, false, *reason, message);
        }
        _ => conditions.set(types::STORAGE_READY, true, Reason::DisksCreated, disk),
    }
    match held {
        Some((reason, message)) => conditions.set_ready(Progress::Working, reason, message),
        None => conditions.set_ready(Progress::Done, Reason::AsSpecified, "as specified"),
    }
    // What one writer has said of a condition and then leaves out is half a condition.
    conditions.keep_others();
    InstanceStatus {
        observed_generation: instance.metadata.generation,
        state: Some(InstanceState::Shelved),
        conditions: conditions.into_vec(),
        ..InstanceStatus::default()
    }
}

/// What keeps it from being as asked, or could not bring it back.
fn held(instance: &Instance, image: Option<&Image>) -> Option<(Reason, String)> {
    let told = shelved(instance)?;
    if let Some(name) = &told.image {
        let Some(image) = image else {
            let message = format!(
                "the Image {name}, which has the root disk, is gone: ask for a rebuild with powerState \
                                   Running, or delete the Instance"
            );
            return Some((Reason::ImageNotFound, message));
        };
        let conditions = image.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let away = conditions
            .iter()
            .find(|c| c.type_ == types::READY && c.reason == Reason::OnlyCopyAway.as_str());
        if let Some(away) = away {
            return Some((
                Reason::OnlyCopyAway,
                format!("the root disk is in the Image {name}: {}", away.message),
            ));
        }
    }
    let built = instance.status.as_ref().and_then(|status| status.flavor.as_ref());
    if built.is_some_and(|built| built.name != instance.spec.flavor) {
        let message = "spec.flavor: what is shelved is not resized: set spec.powerState to Running or Stopped, or set \
                       spec.flavor back";
        return Some((Reason::StateForbids, message.into()));
    }
    let done = instance.status.as_ref().and_then(|status| status.rebuild.as_ref());
    let asks = |at: Timestamp| {
        let created = instance.metadata.creation_timestamp.as_ref();
        created.is_none_or(|created| at >= created.0) && done.is_none_or(|done| done.at.0 < at)
    };
    let rebuild = instance.spec.rebuild.as_ref().filter(|rebuild| asks(rebuild.at.0));
    rebuild.map(|_| {
        let message = "spec.rebuild: what is shelved is not rebuilt: set spec.powerState to Running or Stopped, or take the \
                       rebuild out";
        (Reason::StateForbids, message.into())
    })
}
