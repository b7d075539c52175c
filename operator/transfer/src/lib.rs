//! Bytes between hosts: agents serve disks and images to each other.
//!
//! - [`certificate`]: how an agent asks for a certificate, how the controller signs it, whose it is.
//! - [`tls`]: mutual TLS; who is let in.
//! - [`offers`]: what the serving side gives up, to whom, and until when. The ledger of who owns what.
//! - [`server`]: serves what is offered, and nothing else.
//! - [`client`]: receives a file, goes on after any crash, verifies it, and takes it over.
//! - [`handover`]: the pure rule by which a disk has one owner at every moment.
//! - [`bandwidth`]: one bound for all transfers of a process.
//!
//! The protocol is HTTP/1.1 over TLS 1.3, see `docs/adr`. Either side takes the other for hostile: a node may have been
//! taken over. Nothing here knows Kubernetes; the agent and the controller translate.

pub mod bandwidth;
pub mod certificate;
pub mod client;
mod content;
mod extents;
pub mod handover;
mod name;
pub mod offers;
pub mod server;
pub mod tls;
mod wire;

pub use extents::GRAIN;
pub use name::{AGENT_DOMAIN, InvalidName, NoRandomness, NodeName, OfferId, Token};
pub use wire::Code;
