//! The contract between the agent and whatever provides networks.

use std::pin::Pin;

use uuid::Uuid;
use virga_hypervisor::InterfaceSource;

use crate::error::Result;
use crate::node_network::NodeNetwork;

/// A boxed future, so that the trait is object safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What [`NetworkBackend::ensure`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The device on the host that guests are plugged into.
    pub bridge: String,
    /// The MTU, in bytes, if the network sets one.
    pub mtu: Option<u32>,
    /// Whether anything was written.
    pub changed: bool,
    /// Whether a change waits until the last guest on this node is unplugged: more than ports changed, and applying
    /// that would cut the guests off.
    pub restart_pending: bool,
}

/// What a guest's interface is plugged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plug {
    /// For [`InterfaceSpec::source`](virga_hypervisor::InterfaceSpec::source).
    pub source: InterfaceSource,
    /// For [`InterfaceSpec::alias`](virga_hypervisor::InterfaceSpec::alias): names the port inside the domain.
    pub alias: String,
}

/// A network that a back end holds on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldNetwork {
    /// The Network's UID.
    pub uid: Uuid,
    /// The Network's namespace.
    pub namespace: String,
    /// The Network's name.
    pub name: String,
    /// Whether guests can use it.
    pub active: bool,
    /// How many interfaces of guests are plugged in.
    pub connections: u32,
}

/// Provides networks on this node. Every call is idempotent, bounded in time, and needs nothing from earlier calls.
pub trait NetworkBackend: Send + Sync + 'static {
    /// The back end's name, as in a Network's `status.backend`.
    fn name(&self) -> &'static str;

    /// Makes the node's part of the network what it should be: there, active, and with these ports and no others.
    /// Writes nothing when nothing changed.
    fn ensure<'a>(&'a self, network: &'a NodeNetwork) -> BoxFuture<'a, Result<Attachment>>;

    /// What a port's interface is plugged into. Asks nobody: it follows from the names.
    fn plug(&self, network: Uuid, port: Uuid) -> Plug;

    /// Removes the network from this node. One that is not there is removed. With guests plugged in it is
    /// [`Error::InUse`](crate::Error::InUse).
    fn remove(&self, network: Uuid) -> BoxFuture<'_, Result<()>>;

    /// All networks that it holds on this node, for garbage collection.
    fn list(&self) -> BoxFuture<'_, Result<Vec<HeldNetwork>>>;
}
