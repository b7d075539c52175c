//! Which Port is behind which device of the host? libvirt knows devices by their MAC addresses, and Ports have these.

use std::collections::HashMap;

use kube::ResourceExt;
use uuid::Uuid;
use virga_crds::Instance;

use crate::host::Host;

/// A Port, as the metrics name it.
#[derive(Debug)]
pub(super) struct Plug {
    pub port: String,
    pub network: String,
}

/// The Ports of a guest that runs, by the device on the host. libvirt is not asked: what it said last is kept up by whoever
/// plugs in and out. A device without a Port is left out, and so is one whose Port is gone.
pub(super) fn of(host: &Host, instance: &Instance, uid: Uuid) -> HashMap<String, Plug> {
    let devices = host.plugged.last(uid);
    let running = devices.as_ref().and_then(|devices| devices.running.as_ref());
    let interfaces = running.into_iter().flat_map(|running| &running.interfaces);
    let plugs = interfaces.filter_map(|interface| {
        let mac = interface.mac.to_string();
        let port = host.stores.port_of_mac(instance, &mac)?;
        let plug = Plug {
            port: port.name_any(),
            network: port.spec.network.clone(),
        };
        Some((interface.device.clone()?, plug))
    });
    plugs.collect()
}
