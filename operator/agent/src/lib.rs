//! The agent on each hypervisor host: what the kubelet is to a Pod.
//!
//! | question | module |
//! |---|---|
//! | what is told of an Instance, and done about it? | [`instance`] |
//! | … a Volume? | [`volume`] |
//! | … a Network's part on this node? | [`port`] |
//! | … an Image? | [`image`] |
//! | … the node itself? | [`node`] |
//! | what is left over from objects that are gone? | [`orphans`] |
//! | what wakes a loop, beside the API? | [`wake`] |
//! | where on the host is what? | [`layout`] |
//!
//! What to do is decided in `virga_core`, purely, from one look at libvirt, the disk and the watches. The agent remembers
//! nothing that a decision rests on: killed at any moment and started again, it goes on where it was. Stopping it leaves
//! all guests running.

mod agent;
pub mod flags;
pub mod host;
pub mod image;
pub mod instance;
pub mod layout;
pub mod metrics;
pub mod node;
pub mod orphans;
pub mod port;
pub mod stores;
pub mod userdata;
pub mod volume;
pub mod wake;

pub use agent::{Agent, Error, Options, World};
