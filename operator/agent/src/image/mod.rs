//! Which images does this node have, and which are on their way?

mod evict;
mod images;
mod make;
mod named;
mod peers;
mod pull;
mod report;

pub use evict::base_of;
pub(crate) use images::Failure;
pub use images::{Changed, Images};
