//! The agent on each hypervisor host: what the kubelet is to a Pod.
//!
//! | question | module |
//! |---|---|
//! | what is told of an Instance, and done about it? | [`instance`] |
//! | … a Volume? | [`volume`] |
//! | … a Network's part on this node? | [`port`] |
//! | … an Image? | [`image`] |
//! | … an Image that is made here, of an Instance's disk? | [`snapshot`] |
//! | … the node itself? | [`node`] |
//! | what does the host have, and has it room for one more? | [`capacity`], [`room`] |
//! | which of its CPUs, pages and devices does an Instance have? | [`topology`] |
//! | is an Instance's domain there, and does it run? | [`domain`] |
//! | what is plugged into it? | [`plugged`] |
//! | who has a volume? | [`claims`], [`claimants`] |
//! | why was something not done? | [`effect`], [`reconcile`] |
//! | how are files taken away? | [`removal`] |
//! | what goes to and comes from other hosts? | [`transfer`] |
//! | what does the controller tell that the API server doesn't? | [`ask`], [`userdata`] |
//! | which guests leave for other hosts, and come from them? | [`migration`] |
//! | who acts on an Instance at this moment? | [`turns`] |
//! | what is left over from objects that are gone? | [`orphans`] |
//! | what wakes a loop, beside the API? | [`wake`] |
//! | what does the cluster hold for this node? | [`stores`] |
//! | where on the host is what? | [`layout`] |
//!
//! What to do is decided in `virga_core`, purely, from one look at libvirt, the disk and the watches. The agent remembers
//! nothing that a decision rests on: killed at any moment and started again, it goes on where it was. Stopping it leaves
//! all guests running.

mod agent;
pub mod ask;
pub mod capacity;
pub mod claimants;
pub mod claims;
mod controllers;
pub mod domain;
pub mod effect;
pub mod flags;
pub mod host;
pub mod image;
pub mod instance;
pub mod layout;
pub mod metrics;
pub mod migration;
pub mod node;
mod options;
pub mod orphans;
pub mod password;
pub mod plugged;
pub mod port;
pub mod reconcile;
pub mod removal;
pub mod room;
pub mod snapshot;
pub mod stores;
pub mod topology;
pub mod transfer;
pub mod turns;
pub mod usage;
pub mod userdata;
pub mod volume;
pub mod wake;

pub use agent::{Agent, Error, World};
pub use options::Options;
