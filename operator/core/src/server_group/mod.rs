//! Server groups: who is in each.

use jiff::Timestamp;
use virga_crds::{ServerGroup, ServerGroupStatus, conditions::Reason};

use crate::{
    condition::{Conditions, Progress},
    protection::{Protection, protection},
    uses::User,
};

/// How many members the status names.
const MEMBERS: usize = 1000;

/// What to do about a group with these members.
pub fn plan<'a>(
    group: &ServerGroup,
    members: impl Iterator<Item = &'a User> + Clone,
    now: Timestamp,
) -> (Protection, ServerGroupStatus) {
    let protection = protection(&group.metadata, members.clone());
    let old = group
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let mut conditions = Conditions::new(old, group.metadata.generation, now);
    match &protection {
        Protection::InUse(message) => conditions.set_ready(Progress::Working, Reason::InUse, message),
        _ => conditions.set_ready(Progress::Done, Reason::AsSpecified, "Instances can join this group"),
    }
    let status = ServerGroupStatus {
        observed_generation: group.metadata.generation,
        members: members.take(MEMBERS).map(|user| user.name.clone()).collect(),
        conditions: conditions.into_vec(),
    };
    (protection, status)
}
