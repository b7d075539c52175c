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
        (true, true) => {
            in_use(meta.namespace.as_deref().unwrap_or_default(), users).map_or(Protection::Release, Protection::InUse)
        }
    }
}

/// Who uses an object of this namespace, the first five by name; `None` when nobody does. Users of other namespaces are
/// counted: their names are not for everybody. Of an object without a namespace (an empty one) all are told.
pub fn in_use<'a>(namespace: &str, users: impl Iterator<Item = &'a User>) -> Option<String> {
    let is_own = |user: &&User| namespace.is_empty() || user.namespace == namespace;
    let (own, others): (Vec<&User>, Vec<&User>) = users.partition(is_own);
    let mut said: Vec<String> = own.iter().take(NAMED).map(ToString::to_string).collect();
    let more = own.len().saturating_sub(NAMED);
    let mut rest = Vec::new();
    rest.extend((more > 0).then(|| format!("{more} more")));
    rest.extend((!others.is_empty()).then(|| format!("{} of other namespaces", others.len())));
    if said.is_empty() {
        said.append(&mut rest);
    }
    let said = [&[said.join(", ")], rest.as_slice()].concat().join(" and ");
    (!said.is_empty()).then(|| format!("in use by {said}"))
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
    fn only_the_first_users_are_named_and_others_are_counted() {
        let message = |namespace: &str, n| in_use(namespace, users(n).iter()).unwrap_or_default();
        assert!(message("shop", 8).ends_with("Instance shop/i4 and 3 more"));
        assert!(message("", 8).ends_with("Instance shop/i4 and 3 more"));
        assert_eq!(message("shop", 0), "");
        assert_eq!(message("infra", 8), "in use by 8 of other namespaces");
        let mut mixed = users(7);
        mixed[0].namespace = "blog".into();
        assert_eq!(
            in_use("shop", mixed.iter()).unwrap_or_default(),
            "in use by Instance shop/i1, Instance shop/i2, Instance shop/i3, Instance shop/i4, Instance shop/i5 and 1 \
             more and 1 of other namespaces"
        );
    }
}
