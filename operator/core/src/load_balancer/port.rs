use virga_crds::LoadBalancer;

use super::members_network;
use crate::network::{Need, Purpose};

/// The addresses that it needs. What was told once is for life, even if its record was taken away by hand.
pub fn needs(balancer: &LoadBalancer) -> Vec<Need> {
    let namespace = balancer.metadata.namespace.clone().unwrap_or_default();
    let spec = &balancer.spec;
    let status = balancer.status.as_ref();
    let told = status.and_then(|status| status.addresses.first()).map(String::as_str);
    let vip = Need {
        purpose: Purpose::Vip,
        field: "spec.vip".into(),
        namespace: namespace.clone(),
        network: spec.vip.network.clone(),
        address: spec.vip.address.as_deref().or(told).and_then(|text| text.parse().ok()),
        external: false,
    };
    let check = spec.health_check.iter().map(|_| Need {
        purpose: Purpose::HealthCheck,
        field: "spec.healthCheck".into(),
        namespace: namespace.clone(),
        network: members_network(balancer).into(),
        address: None,
        external: false,
    });
    [vip].into_iter().chain(check).collect()
}

#[cfg(test)]
mod tests {
    use virga_crds::{HealthCheck, LoadBalancerSpec, LoadBalancerVip, Port};

    use super::*;
    use crate::network::is_held_by;

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
        let told: Vec<_> = found.iter().map(|need| (need.network.as_str(), need.address)).collect();
        assert_eq!(told, [("front", Some("10.0.0.100".parse().unwrap())), ("back", None)]);
        let ports: Vec<Port> = found
            .iter()
            .map(|need| need.port(&web.metadata, String::new(), &[]))
            .collect();
        let names: Vec<_> = ports.iter().map(|port| port.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["loadbalancer-01234567-front", "healthcheck-01234567-back"]);
        assert!(ports.iter().all(|port| is_held_by(port, &web.metadata)));
        assert_eq!(Purpose::of(&ports[1]).unwrap().0, Purpose::HealthCheck);
        web.metadata.uid = Some("another".into());
        assert!(
            !is_held_by(&ports[0], &web.metadata),
            "of the same name, and not the same"
        );
    }
}
