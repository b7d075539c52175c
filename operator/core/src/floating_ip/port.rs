use virga_crds::{FloatingIP, Port, labels};

use crate::{
    network::{Allocated, held_port, holder},
    router::Need,
};

/// The address that it needs.
pub fn need(floating: &FloatingIP) -> Need {
    let own = floating.metadata.namespace.clone().unwrap_or_default();
    let network = &floating.spec.network;
    Need {
        field: "spec".into(),
        namespace: network.namespace.clone().unwrap_or(own),
        network: network.name.clone(),
        address: floating.spec.address.as_deref().and_then(|text| text.parse().ok()),
        external: true,
    }
}

/// Whether a Port is the address of this very FloatingIP.
pub fn holds(floating: &FloatingIP, port: &Port) -> bool {
    let uid = port.spec.floating_ip.as_ref().map(|holder| &holder.uid);
    uid.is_some() && uid == floating.metadata.uid.as_ref()
}

/// The Port that is the record of its address, where its Network is.
pub fn port(floating: &FloatingIP, need: &Need, mac: String, addresses: &[Allocated]) -> Port {
    let holder = holder(&floating.metadata);
    let mut port = held_port("floatingip", labels::FLOATING_IP, &holder, need, mac, addresses);
    port.spec.floating_ip = Some(holder);
    port
}
