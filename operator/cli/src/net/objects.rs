//! What is there of networks in a namespace?

use kube::Client;
use virga_crds::{AddressGroup, FloatingIP, Instance, LoadBalancer, Network, Port, Router, SecurityGroup};

use crate::cluster::{Error, Reader, Unread};

/// What a namespace has.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// The namespace.
    pub namespace: String,
    /// Networks.
    pub networks: Vec<Network>,
    /// Ports, those too that are addresses of Routers and FloatingIPs of other namespaces.
    pub ports: Vec<Port>,
    /// Routers.
    pub routers: Vec<Router>,
    /// Floating IPs.
    pub floating_ips: Vec<FloatingIP>,
    /// Load balancers.
    pub load_balancers: Vec<LoadBalancer>,
    /// Security groups.
    pub security_groups: Vec<SecurityGroup>,
    /// Address groups.
    pub address_groups: Vec<AddressGroup>,
    /// Instances.
    pub instances: Vec<Instance>,
    /// What the caller may not read.
    pub unread: Vec<Unread>,
}

/// Reads what the caller may.
pub async fn read(client: &Client, namespace: &str) -> Result<Objects, Error> {
    let mut reader = Reader {
        client,
        namespace,
        unread: Vec::new(),
    };
    let so = "those that were not read look as if they were not there";
    let mut objects = Objects {
        namespace: namespace.to_owned(),
        networks: reader.of_namespace(so).await?,
        ports: reader.of_namespace(so).await?,
        routers: reader.of_namespace(so).await?,
        floating_ips: reader.of_namespace(so).await?,
        load_balancers: reader.of_namespace(so).await?,
        security_groups: reader.of_namespace(so).await?,
        address_groups: reader.of_namespace(so).await?,
        instances: reader.of_namespace(so).await?,
        unread: Vec::new(),
    };
    objects.unread = reader.unread;
    Ok(objects)
}
