//! Networks on one node: a trait for whatever provides them, with libvirt's own networks and OVN's.
//!
//! [`NodeNetwork`] is what a node should have of one network: its subnets and *all* ports that live here. A
//! [`NetworkBackend`] makes it so, says what a guest's interface is plugged into, and lists what it holds, for
//! garbage collection.

mod backend;
mod error;
mod libvirt;
mod node_network;
mod ovn;

pub use backend::{Attachment, BoxFuture, HeldNetwork, NetworkBackend, Plug};
pub use error::{Error, Result};
pub use libvirt::LibvirtNetworks;
pub use node_network::{Mode, NodeNetwork, NodePort, NodeSubnet, SubnetRoute};
pub use ovn::OvnNetworks;
