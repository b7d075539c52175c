use virga_crds::FloatingIP;

use crate::network::{Need, Purpose};

/// The address that it needs. What was told once is for life, even if its record was taken away by hand.
pub fn need(floating: &FloatingIP) -> Need {
    let own = floating.metadata.namespace.clone().unwrap_or_default();
    let network = &floating.spec.network;
    let told = floating.status.as_ref().and_then(|status| status.address.as_deref());
    Need {
        purpose: Purpose::FloatingIp,
        field: "spec".into(),
        namespace: network.namespace.clone().unwrap_or(own),
        network: network.name.clone(),
        address: floating
            .spec
            .address
            .as_deref()
            .or(told)
            .and_then(|text| text.parse().ok()),
        external: true,
    }
}
