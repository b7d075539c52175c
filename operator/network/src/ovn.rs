//! OVN's networks, on the side of the host: nothing but what a guest's interface is plugged into.
//!
//! The controller tells OVN's north-bound database of networks and ports; the host's ovn-controller sees a port with a
//! known `iface-id` come up in its bridge, and does the rest.

use uuid::Uuid;
use virga_hypervisor::InterfaceSource;

use crate::backend::{Attachment, BoxFuture, HeldNetwork, NetworkBackend, Plug};
use crate::error::{Error, Result};
use crate::node_network::NodeNetwork;

/// The bridge that ovn-controller fills, by OVN's own default.
const BRIDGE: &str = "br-int";

/// Networks of OVN, seen from this host.
#[derive(Debug, Clone, Copy)]
pub struct OvnNetworks {
    offloads: bool,
}

impl OvnNetworks {
    /// `offloads`: whether guests may leave checksums and segments to the host. Not with a switch in user space.
    pub fn new(offloads: bool) -> Self {
        OvnNetworks { offloads }
    }
}

impl NetworkBackend for OvnNetworks {
    fn name(&self) -> &'static str {
        "ovn"
    }

    fn ensure<'a>(&'a self, network: &'a NodeNetwork) -> BoxFuture<'a, Result<Attachment>> {
        let checked = network.validate().map_err(|message| Error::Invalid {
            network: network.display_name(),
            message,
        });
        let attachment = checked.map(|()| Attachment {
            bridge: BRIDGE.to_owned(),
            mtu: network.mtu,
            changed: false,
            restart_pending: false,
        });
        Box::pin(std::future::ready(attachment))
    }

    fn plug(&self, _network: Uuid, port: Uuid) -> Plug {
        Plug {
            source: InterfaceSource::OpenVSwitch {
                bridge: BRIDGE.to_owned(),
                interface_id: port,
                offloads: self.offloads,
            },
            alias: format!("ua-{port}"),
        }
    }

    fn remove(&self, _network: Uuid) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<HeldNetwork>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_is_plugged_in_by_the_name_that_ovn_knows_it_by() {
        let (network, port) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let backend = OvnNetworks::new(false);
        let plug = backend.plug(network, port);
        let source = InterfaceSource::OpenVSwitch {
            bridge: "br-int".to_owned(),
            interface_id: port,
            offloads: false,
        };
        assert_eq!(plug.source, source);
        assert_eq!(plug.alias, format!("ua-{port}"));
        assert_eq!(backend.remove(network).await, Ok(()));
        assert_eq!(backend.list().await, Ok(Vec::new()));
    }
}
