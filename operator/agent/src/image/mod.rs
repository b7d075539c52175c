//! Which images does this node have, and which are on their way?

mod evict;
mod images;
mod named;
mod peers;
mod pull;
mod report;

pub use images::{Changed, Images};
