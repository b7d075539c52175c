//! Whose frames are a sub-port's among?

use kube::ResourceExt as _;
use virga_core::{
    carried::Obstacle,
    instance::{NO_TRUNK, Plug, too_small},
    network::{self, Backend, is_port_of},
};
use virga_crds::{Instance, Interface, TrunkParent, conditions::Reason};

use crate::{Context, network::of_interface};

/// The parent of a Port that is to be.
pub(super) enum Parent {
    /// It needs none.
    None,
    /// It isn't there yet. The Instance is looked at when it comes.
    Comes,
    /// This one.
    Is(TrunkParent),
}

/// The parent that an Instance's plug needs, or what is in its way.
pub(super) fn parent(context: &Context, instance: &Instance, plug: &Plug<'_>) -> Result<Parent, Obstacle> {
    let Some(((carrier, _), name)) = plug.tagged.zip(plug.parent_name(&instance.name_any())) else {
        return Ok(Parent::None);
    };
    if context.carrier.backend == Backend::Libvirt {
        return Err(Obstacle {
            reason: Reason::NotSupported,
            message: format!("spec.interfaces[{}].trunk: {NO_TRUNK}", carrier.network),
        });
    }
    let own = instance.namespace().unwrap_or_default();
    let found = context.stores.port(&own, &name);
    let found = found.filter(|port| port.metadata.deletion_timestamp.is_none() && is_port_of(port, instance));
    Ok(plug.trunk(found.as_deref()).map_or(Parent::Comes, Parent::Is))
}

/// What keeps a new sub-port's packets from fitting into its parent's.
pub(super) fn oversize(context: &Context, own: &str, plug: &Plug<'_>) -> Option<Obstacle> {
    let (carrier, _) = plug.tagged?;
    let mtu = |interface: &Interface| {
        let network = of_interface(&context.stores, own, interface).ok()?;
        context.carrier.backend.mtu(&network::validate(&network.spec).ok()?)
    };
    let message = too_small(plug, mtu(carrier), mtu(&plug.interface))?;
    let reason = Reason::Invalid;
    Some(Obstacle { reason, message })
}

#[cfg(test)]
mod tests;
