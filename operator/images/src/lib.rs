//! Image formats, inspection, the node's image cache, disks and cloud-init seeds.
//!
//! - [`inspect`]: what is in a file that somebody calls a disk image? Pure code over any `Read + Seek`.
//! - [`cache`]: the node's store of verified images, addressed by their SHA-256 digest.
//! - [`disk`]: overlays, blank disks and resizing through `qemu-img`.
//! - [`durable`]: how a file appears whole or not at all, and stays after a power cut.
//! - [`seed`]: the NoCloud seed that tells cloud-init in the guest who it is.
//!
//! Images, URLs and user data come from tenants, so everything here is bounded and nothing is trusted. The crate knows
//! no Kubernetes types: the agent translates. The image service of a later version plugs in as one more
//! [`cache::Source`]; digests, inspection and admission to the cache stay the same.

pub mod cache;
mod digest;
pub mod disk;
pub mod durable;
mod format;
pub mod inspect;
pub mod seed;

pub use digest::{Digest, InvalidDigest};
pub use format::{Format, UnknownFormat};
