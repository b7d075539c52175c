//! Address groups: what is to be said of each, and whether it may go.

use jiff::Timestamp;
use virga_crds::{AddressGroup, AddressGroupStatus};

use crate::{
    carried::{Carried, Obstacle},
    condition::Conditions,
    network::Backend,
    protection::{Protection, protection},
    security_group,
    uses::User,
};

/// What to do about a group with these users, and what to say. `carried` is what the back end says of it.
pub fn plan<'a>(
    group: &AddressGroup,
    backend: Backend,
    carried: &Carried<Option<Obstacle>>,
    users: impl Iterator<Item = &'a User> + Clone,
    now: Timestamp,
) -> (Protection, AddressGroupStatus) {
    let protection = protection(&group.metadata, users.clone());
    let status = group.status.as_ref();
    let old = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let observed = status.and_then(|status| status.observed_generation);
    let mut conditions = Conditions::new(old, group.metadata.generation, now);
    let in_the_way = carried.in_the_way(conditions.was_ready(observed));
    let done = "rules that name it go by these addresses";
    security_group::set_ready(&mut conditions, &protection, backend, in_the_way, done);
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let status = AddressGroupStatus {
        observed_generation: group.metadata.generation,
        addresses: count(group.spec.addresses.len()),
        security_groups: count(users.filter(|user| user.kind == "SecurityGroup").count()),
        conditions: conditions.into_vec(),
    };
    (protection, status)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use virga_crds::{AddressGroupSpec, finalizers};

    use super::*;

    const OVN: Backend = Backend::Ovn { underlay_mtu: 1500 };

    #[test]
    fn it_says_whether_rules_go_by_it_and_stays_while_they_name_it() {
        let spec = AddressGroupSpec {
            addresses: vec!["10.0.0.0/8".into(), "fd00::1".into()],
            ..AddressGroupSpec::default()
        };
        let mut group = AddressGroup::new("offices", spec);
        group.metadata.finalizers = Some(vec![finalizers::CONTROLLER.into()]);
        let user = User {
            kind: "SecurityGroup",
            namespace: "shop".into(),
            name: "web".into(),
        };
        let said = |group: &AddressGroup, backend, carried: &Carried<Option<Obstacle>>, users: &[User]| {
            let (protection, status) = plan(group, backend, carried, users.iter(), Timestamp::UNIX_EPOCH);
            let ready = &status.conditions[0];
            let counts = format!("{} by {}", status.addresses, status.security_groups);
            (protection, format!("{}/{} {counts}", ready.status, ready.reason))
        };
        let users = std::slice::from_ref(&user);
        let of = |carried| said(&group, OVN, &carried, users).1;
        assert_eq!(of(Carried::Seen(None)), "True/AsSpecified 2 by 1");
        assert_eq!(of(Carried::Unknown), "False/Building 2 by 1");
        assert_eq!(
            said(&group, Backend::Libvirt, &Carried::Seen(None), &[]).1,
            "True/NotEnforced 2 by 0"
        );
        group.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let (protection, text) = said(&group, OVN, &Carried::Seen(None), users);
        assert_eq!(protection, Protection::InUse("in use by SecurityGroup shop/web".into()));
        assert_eq!(text, "False/InUse 2 by 1");
        assert_eq!(said(&group, OVN, &Carried::Seen(None), &[]).0, Protection::Release);
    }
}
