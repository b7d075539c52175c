use jiff::Timestamp;
use virga_crds::{SecurityGroup, SecurityGroupStatus, conditions::Reason};

use super::Remote;
use crate::{
    carried::{Carried, Obstacle},
    condition::{Conditions, Progress},
    network::Backend,
    protection::{Protection, protection},
    uses::User,
};

/// What is known of a group besides its spec.
#[derive(Clone, Debug, Default)]
pub struct Standing<'a> {
    /// What carries the networks.
    pub backend: Backend,
    /// What it says of the group.
    pub carried: Carried<Option<Obstacle>>,
    /// The Project whose default group it is, while that lives.
    pub kept_for: Option<&'a str>,
    /// The first rule that names what isn't there, and what.
    pub missing: Option<(usize, Remote<'a>)>,
}

/// What to do about a group with these users, and what to say.
pub fn plan<'a>(
    group: &SecurityGroup,
    standing: &Standing<'_>,
    users: impl Iterator<Item = &'a User> + Clone,
    now: Timestamp,
) -> (Protection, SecurityGroupStatus) {
    let mut protection = protection(&group.metadata, users.clone());
    if let (Protection::Release, Some(project)) = (&protection, standing.kept_for) {
        protection = Protection::InUse(format!(
            "in use by Project {project}: Ports that name no group are in this one"
        ));
    }
    let status = group.status.as_ref();
    let old = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let observed = status.and_then(|status| status.observed_generation);
    let mut conditions = Conditions::new(old, group.metadata.generation, now);
    let namespace = group.metadata.namespace.as_deref().unwrap_or_default();
    let missing = standing.missing.map(|(rule, remote)| {
        let (field, (kind, namespace, name)) = (remote.field(), remote.place(namespace));
        let message = format!(
            "spec.rules[{rule}].remote.{field}: {kind} {namespace}/{name} doesn't exist: create it; until then the rule \
             lets nothing pass"
        );
        (remote.reason(), message)
    });
    let in_the_way = match (standing.carried.in_the_way(conditions.was_ready(observed)), &missing) {
        (None | Some((Reason::Building, _)), Some((reason, message))) => Some((*reason, message.as_str())),
        (found, _) => found,
    };
    set_ready(
        &mut conditions,
        &protection,
        standing.backend,
        in_the_way,
        "the rules are in force",
    );
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let status = SecurityGroupStatus {
        observed_generation: group.metadata.generation,
        rules: count(group.spec.rules.len()),
        ports: count(users.filter(|user| user.kind == "Port").count()),
        conditions: conditions.into_vec(),
    };
    (protection, status)
}

/// Sets `Ready` of a group of rules, or of addresses that rules name; `done` is said of one in force.
pub(crate) fn set_ready(
    conditions: &mut Conditions,
    protection: &Protection,
    backend: Backend,
    in_the_way: Option<(Reason, &str)>,
    done: &str,
) {
    let (progress, reason, message) = match (protection, backend, in_the_way) {
        (Protection::InUse(users), ..) => (Progress::Working, Reason::InUse, users.as_str()),
        (_, Backend::Libvirt, _) => (
            Progress::Done,
            Reason::NotEnforced,
            "libvirt's networks enforce no rules: it counts when the operator installs Virga with OVN",
        ),
        (_, _, Some((reason, message))) => (Progress::Working, reason, message),
        (_, _, None) => (Progress::Done, Reason::AsSpecified, done),
    };
    conditions.set_ready(progress, reason, message);
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use virga_crds::finalizers;

    use super::*;
    use crate::security_group::default_group;

    const OVN: Backend = Backend::Ovn { underlay_mtu: 1500 };

    fn group(deleting: bool) -> SecurityGroup {
        let mut group = default_group("shop");
        group.metadata.finalizers = Some(vec![finalizers::CONTROLLER.into()]);
        group.metadata.deletion_timestamp = deleting.then_some(Time(Timestamp::UNIX_EPOCH));
        group
    }

    fn said(group: &SecurityGroup, standing: &Standing<'_>, users: &[User]) -> (Protection, String) {
        let (protection, status) = plan(group, standing, users.iter(), Timestamp::UNIX_EPOCH);
        let ready = &status.conditions[0];
        let text = format!("{}/{} {} ports", ready.status, ready.reason, status.ports);
        (protection, text)
    }

    #[test]
    fn it_says_whether_its_rules_are_in_force() {
        let on = |carried, missing| Standing {
            backend: OVN,
            carried,
            missing,
            ..Standing::default()
        };
        let port = User {
            kind: "Port",
            namespace: "shop".into(),
            name: "p".into(),
        };
        let text = |standing: Standing<'_>| said(&group(false), &standing, std::slice::from_ref(&port)).1;
        assert_eq!(text(on(Carried::Seen(None), None)), "True/AsSpecified 1 ports");
        assert_eq!(text(on(Carried::Unknown, None)), "False/Building 1 ports");
        assert_eq!(
            text(on(Carried::Seen(None), Some((0, Remote::Group("web"))))),
            "False/SecurityGroupNotFound 1 ports"
        );
        assert_eq!(text(Standing::default()), "True/NotEnforced 1 ports");
    }

    #[test]
    fn a_default_group_is_kept_while_its_project_lives() {
        let kept = Standing {
            backend: OVN,
            kept_for: Some("shop"),
            ..Standing::default()
        };
        let (protection, text) = said(&group(true), &kept, &[]);
        assert!(matches!(protection, Protection::InUse(message) if message.contains("Project shop")));
        assert_eq!(text, "False/InUse 0 ports");
        let free = Standing { kept_for: None, ..kept };
        assert_eq!(said(&group(true), &free, &[]).0, Protection::Release);
    }
}
