//! What is there? The objects that placement depends on, from manifests or from a cluster.

use k8s_openapi::api::core::v1::Namespace;
use virga_crds::{Flavor, HostAggregate, Hypervisor, Image, Instance, ServerGroup, Volume};

/// All of them, in the order in which they were read.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Hypervisors.
    pub hypervisors: Vec<Hypervisor>,
    /// Host aggregates.
    pub host_aggregates: Vec<HostAggregate>,
    /// Flavors.
    pub flavors: Vec<Flavor>,
    /// Images.
    pub images: Vec<Image>,
    /// Server groups.
    pub server_groups: Vec<ServerGroup>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Instances, those that are placed and those that are not.
    pub instances: Vec<Instance>,
    /// Namespaces that belong to a Project.
    pub namespaces: Vec<Namespace>,
}
