//! Can an interface have the trunk, groups, address pairs and QoS that it asks for?

use kube::ResourceExt as _;
use virga_core::{
    instance::NO_TRUNK,
    network::{Backend, NO_QOS},
};
use virga_crds::{Interface, Network, PortSecurity, Qos, conditions::Reason};

use crate::stores::Stores;

/// What is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The field of the interface.
    pub field: &'static str,
    /// For a condition.
    pub reason: Reason,
    /// The same in words.
    pub message: String,
}

impl Wrong {
    /// Whether it may come right without a change of the spec: what is named and not there may come.
    pub fn may_come(&self) -> bool {
        self.reason == Reason::SecurityGroupNotFound
    }
}

/// What is in the way of an interface of an Instance in this namespace, in a network, on a back end.
pub fn wrong(
    stores: &Stores,
    backend: Backend,
    namespace: &str,
    network: &Network,
    interface: &Interface,
) -> Option<Wrong> {
    if backend == Backend::Libvirt && interface.qos.is_some_and(|qos| qos != Qos::default()) {
        return Some(Wrong {
            field: "qos",
            reason: Reason::NotEnforced,
            message: NO_QOS.into(),
        });
    }
    if backend == Backend::Libvirt && interface.trunk.is_some() {
        return Some(Wrong {
            field: "trunk",
            reason: Reason::NotSupported,
            message: NO_TRUNK.into(),
        });
    }
    let groups = &interface.security_groups;
    let field = match (groups.is_empty(), interface.allowed_address_pairs.is_empty()) {
        (true, true) => return None,
        (false, _) => "securityGroups",
        (true, false) => "allowedAddressPairs",
    };
    if network.spec.port_security == PortSecurity::Disabled {
        let message = format!(
            "Network {} has port security off, so its Ports have neither security groups nor address pairs: leave them out",
            network.name_any()
        );
        return Some(Wrong {
            field,
            reason: Reason::Invalid,
            message,
        });
    }
    if backend == Backend::Libvirt && !groups.is_empty() {
        let message = "libvirt's networks enforce no rules: leave it out, or have the operator install Virga with OVN";
        return Some(Wrong {
            field,
            reason: Reason::NotEnforced,
            message: message.into(),
        });
    }
    let name = groups
        .iter()
        .find(|name| stores.security_group(namespace, name).is_none())?;
    Some(Wrong {
        field,
        reason: Reason::SecurityGroupNotFound,
        message: format!("SecurityGroup {namespace}/{name} doesn't exist: create it, or name another"),
    })
}
