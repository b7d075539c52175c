use jiff::Timestamp;
use virga_crds::{SecurityGroup, SecurityGroupStatus, conditions::Reason};

use super::Remote;
use crate::{
    condition::{Conditions, Progress, is_true},
    network::{Backend, Carried},
    protection::{Protection, protection},
    uses::User,
};

/// What is known of a group besides its spec.
#[derive(Clone, Debug, Default)]
pub struct Standing<'a> {
    /// What carries the networks.
    pub backend: Backend,
    /// What it says of the group.
    pub carried: Carried,
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
    let said_so = is_true(old, virga_crds::conditions::types::READY)
        && status.is_some_and(|status| status.observed_generation == group.metadata.generation);
    let mut conditions = Conditions::new(old, group.metadata.generation, now);
    let namespace = group.metadata.namespace.as_deref().unwrap_or_default();
    match (&protection, standing.missing, &standing.carried) {
        (Protection::InUse(message), ..) => conditions.set_ready(Progress::Working, Reason::InUse, message),
        _ if standing.backend == Backend::Libvirt => conditions.set_ready(
            Progress::Done,
            Reason::NotEnforced,
            "libvirt's networks enforce no rules: it counts when the operator installs Virga with OVN",
        ),
        (_, _, Carried::No { reason, message }) => conditions.set_ready(Progress::Working, *reason, message),
        (_, Some((rule, remote)), _) => {
            let (field, (kind, namespace, name)) = (remote.field(), remote.place(namespace));
            let message = format!(
                "spec.rules[{rule}].remote.{field}: {kind} {namespace}/{name} doesn't exist: create it; until then the \
                 rule lets nothing pass"
            );
            conditions.set_ready(Progress::Working, remote.reason(), message);
        }
        (_, None, Carried::Unknown) if !said_so => {
            conditions.set_ready(Progress::Working, Reason::Building, "being written to OVN");
        }
        _ => conditions.set_ready(Progress::Done, Reason::AsSpecified, "the rules are in force"),
    }
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let status = SecurityGroupStatus {
        observed_generation: group.metadata.generation,
        rules: count(group.spec.rules.len()),
        ports: count(users.filter(|user| user.kind == "Port").count()),
        conditions: conditions.into_vec(),
    };
    (protection, status)
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
        let on = |carried: Carried, missing| Standing {
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
        assert_eq!(text(on(Carried::AsSpecified, None)), "True/AsSpecified 1 ports");
        assert_eq!(text(on(Carried::Unknown, None)), "False/Building 1 ports");
        assert_eq!(
            text(on(Carried::AsSpecified, Some((0, Remote::Group("web"))))),
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
