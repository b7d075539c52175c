//! What is right and still may not be meant?

use std::collections::HashSet;

use kube::ResourceExt;

use crate::objects::Objects;

/// The most names in one remark.
const MOST_NAMES: usize = 5;

/// What the user should know of the objects.
pub(super) fn remarks(objects: &Objects) -> Vec<String> {
    let hosts: HashSet<String> = objects.hypervisors.iter().map(ResourceExt::name_any).collect();
    let unknown = |node: Option<&String>| node.is_some_and(|node| !hosts.contains(node));
    let without = objects.hypervisors.iter().filter(|host| {
        let status = host.status.as_ref();
        status.is_none_or(|status| status.capacity.is_none())
    });
    let without = named(without.map(ResourceExt::name_any));
    let lost = objects
        .instances
        .iter()
        .filter(|instance| unknown(instance.spec.node_name.as_ref()));
    let volumes = objects
        .volumes
        .iter()
        .filter(|volume| unknown(volume.spec.node_name.as_ref()));
    let lost = named(lost.map(shown).chain(volumes.map(shown)));
    let mut remarks = Vec::new();
    if let Some(names) = without {
        remarks.push(format!("nothing fits on Hypervisors without status.capacity: {names}"));
    }
    if let Some(names) = lost {
        remarks.push(format!(
            "spec.nodeName is no Hypervisor that was read, so it counts nowhere: {names}"
        ));
    }
    remarks
}

/// `namespace/name` of an object.
fn shown(object: &impl ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

fn named(names: impl Iterator<Item = String>) -> Option<String> {
    let names: Vec<String> = names.collect();
    let more = match names.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = names.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| shown + &more)
}
