use virga_crds::Router;

use crate::network::{Need, Purpose};

/// The addresses that a Router's spec asks for: one in the external Network, and those of its own choice. What is no address
/// is left out: the schema refuses it.
pub fn needs(router: &Router) -> Vec<Need> {
    let own = router.metadata.namespace.clone().unwrap_or_default();
    let external = router.spec.external_gateway.iter().map(|gateway| Need {
        purpose: Purpose::Router,
        field: "spec.externalGateway".into(),
        namespace: gateway.network.namespace.clone().unwrap_or_else(|| own.clone()),
        network: gateway.network.name.clone(),
        address: gateway.address.as_deref().and_then(|text| text.parse().ok()),
        external: true,
    });
    let chosen = router.spec.networks.iter().filter_map(|joined| {
        Some(Need {
            purpose: Purpose::Router,
            field: format!("spec.networks[{}]", joined.network),
            namespace: own.clone(),
            network: joined.network.clone(),
            address: Some(joined.address.as_deref()?.parse().ok()?),
            external: false,
        })
    });
    external.chain(chosen).collect()
}

#[cfg(test)]
mod tests {
    use virga_crds::{ExternalGateway, NetworkRef, RouterNetwork, RouterSpec};

    use super::*;
    use crate::network::is_held_by;

    #[test]
    fn a_router_needs_an_address_outside_and_those_that_it_chooses_itself() {
        let network = |network: &str, address: Option<&str>| RouterNetwork {
            network: network.into(),
            address: address.map(Into::into),
            subnet: None,
        };
        let spec = RouterSpec {
            networks: vec![network("front", None), network("back", Some("10.1.0.9"))],
            external_gateway: Some(ExternalGateway {
                network: NetworkRef {
                    name: "public".into(),
                    namespace: Some("infra".into()),
                },
                ..ExternalGateway::default()
            }),
            ..RouterSpec::default()
        };
        let mut router = Router::new("edge", spec);
        router.metadata.namespace = Some("shop".into());
        router.metadata.uid = Some("0123456789".into());
        let needs = needs(&router);
        let told: Vec<_> = needs
            .iter()
            .map(|need| format!("{}/{} {:?}", need.namespace, need.network, need.address))
            .collect();
        assert_eq!(told, ["infra/public None", "shop/back Some(10.1.0.9)"]);
        let port = needs[0].port(&router.metadata, String::new(), &[]);
        assert_eq!(port.metadata.name.as_deref().unwrap(), "router-01234567-public");
        assert_eq!(port.metadata.namespace.as_deref(), Some("infra"));
        assert!(is_held_by(&port, &router.metadata) && port.metadata.owner_references.is_none());
        router.metadata.uid = Some("another".into());
        assert!(
            !is_held_by(&port, &router.metadata),
            "of the same name, and not the same"
        );
    }
}
