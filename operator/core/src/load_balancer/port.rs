use virga_crds::{LoadBalancer, Port, PortHolder, labels};

use super::members_network;
use crate::{
    network::{Allocated, held_port, holder},
    router::Need,
};

/// What an address of a LoadBalancer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Clients ask it.
    Vip,
    /// Members are asked from it whether they answer. It can't be the VIP: who has this one answers nothing else.
    HealthCheck,
}

impl Role {
    /// How its Port's name begins.
    fn kind(self) -> &'static str {
        match self {
            Self::Vip => "loadbalancer",
            Self::HealthCheck => "healthcheck",
        }
    }
}

/// The addresses that it needs.
pub fn needs(balancer: &LoadBalancer) -> Vec<(Role, Need)> {
    let namespace = balancer.metadata.namespace.clone().unwrap_or_default();
    let spec = &balancer.spec;
    let vip = Need {
        field: "spec.vip".into(),
        namespace: namespace.clone(),
        network: spec.vip.network.clone(),
        address: spec.vip.address.as_deref().and_then(|text| text.parse().ok()),
        external: false,
    };
    let check = spec.health_check.iter().map(|_| Need {
        field: "spec.healthCheck".into(),
        namespace: namespace.clone(),
        network: members_network(balancer).into(),
        address: None,
        external: false,
    });
    let check = check.map(|need| (Role::HealthCheck, need));
    [(Role::Vip, vip)].into_iter().chain(check).collect()
}

/// What a Port is to a LoadBalancer, and to which.
pub fn role(port: &Port) -> Option<(Role, &PortHolder)> {
    let vip = port.spec.load_balancer.as_ref().map(|holder| (Role::Vip, holder));
    vip.or_else(|| Some((Role::HealthCheck, port.spec.health_check.as_ref()?)))
}

/// Whether a Port is an address of this very LoadBalancer.
pub fn holds(balancer: &LoadBalancer, port: &Port) -> bool {
    role(port).is_some_and(|(_, holder)| Some(&holder.uid) == balancer.metadata.uid.as_ref())
}

/// The Port that is the record of an address.
pub fn port(balancer: &LoadBalancer, role: Role, need: &Need, mac: String, addresses: &[Allocated]) -> Port {
    let holder = holder(&balancer.metadata);
    let mut port = held_port(role.kind(), labels::LOAD_BALANCER, &holder, need, mac, addresses);
    match role {
        Role::Vip => port.spec.load_balancer = Some(holder),
        Role::HealthCheck => port.spec.health_check = Some(holder),
    }
    port
}

#[cfg(test)]
mod tests {
    use virga_crds::{HealthCheck, LoadBalancerSpec, LoadBalancerVip};

    use super::*;

    #[test]
    fn it_needs_an_address_for_clients_and_one_to_ask_members_from() {
        let spec = LoadBalancerSpec {
            vip: LoadBalancerVip {
                network: "front".into(),
                address: Some("10.0.0.100".into()),
            },
            ..LoadBalancerSpec::default()
        };
        let mut web = LoadBalancer::new("web", spec);
        web.metadata.namespace = Some("shop".into());
        web.metadata.uid = Some("0123456789".into());
        assert_eq!(needs(&web).len(), 1);
        web.spec.health_check = Some(HealthCheck::default());
        web.spec.members.network = Some("back".into());
        let found = needs(&web);
        let told: Vec<_> = found
            .iter()
            .map(|(_, need)| (need.network.as_str(), need.address))
            .collect();
        assert_eq!(told, [("front", Some("10.0.0.100".parse().unwrap())), ("back", None)]);
        let ports: Vec<Port> = found
            .iter()
            .map(|(role, need)| port(&web, *role, need, String::new(), &[]))
            .collect();
        let names: Vec<_> = ports.iter().map(|port| port.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["loadbalancer-01234567-front", "healthcheck-01234567-back"]);
        assert!(ports.iter().all(|port| holds(&web, port)));
        assert_eq!(role(&ports[1]).unwrap().0, Role::HealthCheck);
        web.metadata.uid = Some("another".into());
        assert!(!holds(&web, &ports[0]), "of the same name, and not the same");
    }
}
