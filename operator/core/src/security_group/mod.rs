//! Security groups: which ones a Port is in, and what is to be said of each.

mod protocol;
mod status;

pub use protocol::protocol_number;
pub(crate) use status::set_ready;
pub use status::{Standing, plan};
use virga_crds::{
    AddressGroupRef, EtherType, Interface, Port, PortSpec, RuleDirection, RuleRemote, SecurityGroup, SecurityGroupRule,
    SecurityGroupSpec, conditions::Reason,
};

/// The group of Ports that name none.
pub const DEFAULT: &str = "default";

/// The groups that a Port is in, as far as its network has port security; an address of anything else than an Instance is in none.
pub fn of_port(port: &PortSpec) -> Vec<&str> {
    let held = [&port.router, &port.floating_ip, &port.load_balancer, &port.health_check];
    if held.iter().any(|holder| holder.is_some()) {
        return Vec::new();
    }
    if port.security_groups.is_empty() {
        return vec![DEFAULT];
    }
    port.security_groups.iter().map(String::as_str).collect()
}

/// The group `default` as it is made, with Neutron's rules: guests may send anything, and get what they ask for and
/// anything from each other.
pub fn default_group(namespace: &str) -> SecurityGroup {
    let families = [EtherType::V4, EtherType::V6];
    let rule = |direction, ether_type, remote| SecurityGroupRule {
        direction,
        ether_type,
        remote,
        ..SecurityGroupRule::default()
    };
    let each_other = || {
        Some(RuleRemote {
            group: Some(DEFAULT.into()),
            ..RuleRemote::default()
        })
    };
    let out = families.map(|family| rule(RuleDirection::Egress, family, None));
    let within = families.map(|family| rule(RuleDirection::Ingress, family, each_other()));
    let spec = SecurityGroupSpec {
        description: "Of Ports that name no group. Made by Virga; its rules are yours to change.".into(),
        rules: out.into_iter().chain(within).collect(),
        ..SecurityGroupSpec::default()
    };
    let mut group = SecurityGroup::new(DEFAULT, spec);
    group.metadata.namespace = Some(namespace.into());
    group
}

/// What a rule names as the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remote<'a> {
    /// The Ports of a SecurityGroup of the same namespace.
    Group(&'a str),
    /// The addresses of an AddressGroup.
    Addresses(&'a AddressGroupRef),
}

impl<'a> Remote<'a> {
    /// What a rule names, if anything.
    pub fn of(rule: &'a SecurityGroupRule) -> Option<Self> {
        let remote = rule.remote.as_ref()?;
        let group = remote.group.as_deref().map(Self::Group);
        group.or_else(|| remote.address_group.as_ref().map(Self::Addresses))
    }

    /// The field of a rule that names it.
    pub fn field(self) -> &'static str {
        match self {
            Self::Group(_) => "group",
            Self::Addresses(_) => "addressGroup",
        }
    }

    /// Its kind, namespace and name, for a group in this namespace.
    pub fn place(self, namespace: &'a str) -> (&'static str, &'a str, &'a str) {
        match self {
            Self::Group(name) => ("SecurityGroup", namespace, name),
            Self::Addresses(named) => ("AddressGroup", namespace, &named.name),
        }
    }

    fn reason(self) -> Reason {
        match self {
            Self::Group(_) => Reason::SecurityGroupNotFound,
            Self::Addresses(_) => Reason::AddressGroupNotFound,
        }
    }
}

/// What a group's rules name, each with the rule's index.
pub fn remotes(group: &SecurityGroup) -> impl Iterator<Item = (usize, Remote<'_>)> {
    let rules = group.spec.rules.iter().enumerate();
    rules.filter_map(|(at, rule)| Some((at, Remote::of(rule)?)))
}

/// What of that is not there.
pub fn missing_remotes(
    group: &SecurityGroup,
    is_there: impl Fn(Remote<'_>) -> bool,
) -> impl Iterator<Item = (usize, Remote<'_>)> {
    remotes(group).filter(move |(_, remote)| !is_there(*remote))
}

/// Whether a Port has the groups, address pairs and QoS that its interface asks for.
pub fn follows(port: &Port, interface: &Interface) -> bool {
    port.spec.security_groups == interface.security_groups
        && port.spec.allowed_address_pairs == interface.allowed_address_pairs
        && port.spec.qos == interface.qos
}

#[cfg(test)]
mod tests {
    use virga_crds::RuleMode;

    use super::*;

    #[test]
    fn a_port_that_names_no_group_is_in_the_default_one() {
        let mut port = PortSpec::default();
        assert_eq!(of_port(&port), ["default"]);
        port.security_groups = vec!["web".into(), "db".into()];
        assert_eq!(of_port(&port), ["web", "db"]);
    }

    #[test]
    fn the_default_group_has_neutrons_rules() {
        let group = default_group("shop");
        let said: Vec<String> = group
            .spec
            .rules
            .iter()
            .map(|rule| {
                let remote = rule.remote.as_ref().and_then(|remote| remote.group.as_deref());
                format!("{:?} {:?} {}", rule.direction, rule.ether_type, remote.unwrap_or("any"))
            })
            .collect();
        assert_eq!(
            said,
            [
                "Egress V4 any",
                "Egress V6 any",
                "Ingress V4 default",
                "Ingress V6 default"
            ]
        );
        assert_eq!(group.spec.mode, RuleMode::Stateful);
    }

    #[test]
    fn groups_that_rules_name_may_be_missing_and_itself_is_there() {
        let mut group = default_group("shop");
        group.spec.rules.push(SecurityGroupRule {
            remote: Some(RuleRemote {
                group: Some("web".into()),
                ..RuleRemote::default()
            }),
            ..SecurityGroupRule::default()
        });
        let offices = AddressGroupRef { name: "offices".into() };
        group.spec.rules.push(SecurityGroupRule {
            remote: Some(RuleRemote {
                address_group: Some(offices.clone()),
                ..RuleRemote::default()
            }),
            ..SecurityGroupRule::default()
        });
        let missing: Vec<_> = missing_remotes(&group, |remote| remote == Remote::Group(DEFAULT)).collect();
        assert_eq!(missing, [(4, Remote::Group("web")), (5, Remote::Addresses(&offices))]);
    }
}
