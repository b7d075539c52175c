//! Which hosts have said that they can't take an Instance?

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use virga_crds::{
    Instance,
    conditions::{Reason, types},
};

/// A host that rejected an Instance is not tried again for this long: what it lacked may be there by then.
pub const REJECTION_HOLDS: SignedDuration = SignedDuration::from_mins(10);

/// Whether the node that the Instance is bound to has said that it can't take it.
pub fn is_rejected(instance: &Instance) -> bool {
    let (Some(node), Some(status)) = (&instance.spec.node_name, &instance.status) else {
        return false;
    };
    let rejected = |c: &virga_crds::Condition| {
        c.type_ == types::SCHEDULED && c.status == "False" && c.reason == Reason::HostRejected.as_str()
    };
    status.rejected_by.contains(node) && status.conditions.iter().any(rejected)
}

/// The hosts that are not tried: those that have rejected it lately.
pub(super) fn rejecting_hosts(instance: &Instance, now: Timestamp) -> BTreeSet<String> {
    let Some(status) = &instance.status else {
        return BTreeSet::new();
    };
    let scheduled = status
        .conditions
        .iter()
        .find(|c| c.type_ == types::SCHEDULED && c.status == "False");
    let holds = scheduled.is_some_and(|c| now.duration_since(c.last_transition_time.0) < REJECTION_HOLDS);
    // The one that has just rejected it is bound still; whatever the clocks say, it must not be chosen again at once.
    let just_now = instance
        .spec
        .node_name
        .iter()
        .filter(|_| is_rejected(instance))
        .cloned();
    status
        .rejected_by
        .iter()
        .filter(|_| holds)
        .cloned()
        .chain(just_now)
        .collect()
}
