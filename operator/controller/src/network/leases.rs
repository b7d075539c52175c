//! Addresses of those that are no Instances: Routers, FloatingIPs and LoadBalancers.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use virga_core::{
    carried::Obstacle,
    network::{self, Need},
};
use virga_crds::{Network, Port, conditions::Reason};
use virga_runtime::apply;

use super::{Claim, Given, Holder, Ipam, Untaken, Use};
use crate::{Context, uses::UseIndex};

/// Gives them out, and takes them back.
pub struct Leases {
    context: Arc<Context>,
    uses: Arc<UseIndex>,
    ipam: Arc<Ipam>,
}

impl Leases {
    /// Of these books.
    pub fn new(context: Arc<Context>, uses: Arc<UseIndex>, ipam: Arc<Ipam>) -> Self {
        Self { context, uses, ipam }
    }

    /// Deletes the record of an address.
    pub async fn give_back(&self, port: &Port) -> Result<(), apply::Error> {
        self.context.writer.delete(port).await?;
        self.ipam.forget(port);
        Ok(())
    }

    /// The Network, if addresses of it can be had.
    fn network(&self, need: &Need) -> Result<Arc<Network>, Obstacle> {
        let Need {
            field,
            namespace,
            network: name,
            ..
        } = need;
        let of = |reason, message: String| Obstacle { reason, message };
        let Some(network) = self.context.stores.network(namespace, name) else {
            let message = format!("{field}: Network {namespace}/{name} doesn't exist: create it, or name another");
            return Err(of(Reason::NetworkNotFound, message));
        };
        if network.metadata.deletion_timestamp.is_some() {
            let message = format!("{field}: Network {namespace}/{name} is being deleted");
            return Err(of(Reason::NetworkNotReady, message));
        }
        let valid = network::validate(&network.spec).map_err(|problems| {
            let message = format!("{field}: Network {namespace}/{name} is invalid: {problems}");
            of(Reason::NetworkNotReady, message)
        })?;
        if need.external && !valid.external {
            let message =
                format!("{field}.network: Network {namespace}/{name} is not external: name one with scope External");
            return Err(of(Reason::Invalid, message));
        }
        Ok(network)
    }

    /// Takes what its holder needs; the same again for the same Port.
    pub async fn take(&self, need: &Need, meta: &ObjectMeta) -> Result<Given, Obstacle> {
        let network = self.network(need)?;
        let port = format!("{}/{}", need.namespace, need.port_name(meta));
        let seed = format!("{}/{}", meta.uid.as_deref().unwrap_or_default(), need.network);
        let holder = Holder {
            purpose: Use::Address(need.purpose),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        };
        let claim = Claim {
            port: &port,
            holder: &holder,
            seed: &seed,
            addresses: need.address.as_slice(),
            mac: None,
        };
        let (uses, stores) = (&self.uses, &self.context.stores);
        self.ipam
            .take(&network, claim, uses, stores)
            .await
            .map_err(|untaken| match untaken {
                Untaken::Network(why) => Obstacle {
                    reason: Reason::NetworkNotReady,
                    message: format!("{}: Network {}/{} {why}", need.field, need.namespace, need.network),
                },
                Untaken::Address(error) => Obstacle {
                    reason: error.reason(),
                    message: format!("{}.address: {error}", need.field),
                },
            })
    }
}
