//! What is in use can't be deleted: a finalizer holds it until the last user is gone, as `kubernetes.io/pvc-protection`
//! holds a claim. So a Git repository may delete everything at once, in any order.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use virga_crds::finalizers;

use crate::uses::User;

/// How many users a message names.
const NAMED: usize = 5;

/// What to do about an object's finalizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// It isn't there yet: set it.
    Set,
    /// It is there, and nobody wants the object gone.
    Held,
    /// The object is to be deleted, but somebody uses it: the message says who.
    InUse(String),
    /// The object is to be deleted and nobody uses it: take the finalizer off.
    Release,
    /// The object is to be deleted and our finalizer is gone: nothing is left to do.
    Done,
}

/// What to do about the finalizer of an object with these users.
pub fn protection<'a>(meta: &ObjectMeta, users: impl Iterator<Item = &'a User>) -> Protection {
    let held = meta
        .finalizers
        .iter()
        .flatten()
        .any(|name| name == finalizers::CONTROLLER);
    match (meta.deletion_timestamp.is_some(), held) {
        (false, false) => Protection::Set,
        (false, true) => Protection::Held,
        (true, false) => Protection::Done,
        (true, true) => in_use(users).map_or(Protection::Release, Protection::InUse),
    }
}

/// Who uses it, the first five by name; `None` when nobody does.
pub fn in_use<'a>(users: impl Iterator<Item = &'a User>) -> Option<String> {
    let users: Vec<String> = users.map(ToString::to_string).collect();
    let more = users.len().saturating_sub(NAMED);
    let named = users.get(..NAMED).unwrap_or(&users).join(", ");
    match (users.len(), more) {
        (0, _) => None,
        (_, 0) => Some(format!("in use by {named}")),
        (_, more) => Some(format!("in use by {named} and {more} more")),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn users(n: usize) -> Vec<User> {
        (0..n)
            .map(|n| User {
                kind: "Instance",
                namespace: "shop".into(),
                name: format!("i{n}"),
            })
            .collect()
    }

    fn meta(deleting: bool, held: bool) -> ObjectMeta {
        ObjectMeta {
            deletion_timestamp: deleting.then_some(Time(jiff::Timestamp::UNIX_EPOCH)),
            finalizers: held.then(|| vec![finalizers::CONTROLLER.into()]),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn the_finalizer_is_set_held_and_released_with_the_last_user() {
        let of = |deleting, held, n| protection(&meta(deleting, held), users(n).iter());
        assert_eq!(of(false, false, 0), Protection::Set);
        assert_eq!(of(false, true, 3), Protection::Held);
        assert_eq!(
            of(true, true, 1),
            Protection::InUse("in use by Instance shop/i0".into())
        );
        assert_eq!(of(true, true, 0), Protection::Release);
        assert_eq!(of(true, false, 1), Protection::Done);
    }

    #[test]
    fn only_the_first_users_are_named() {
        let message = in_use(users(8).iter()).unwrap();
        assert!(message.ends_with("Instance shop/i4 and 3 more"), "{message}");
    }
}
