//! Host aggregates: which hosts are in each, and which zone each host is in.

mod aggregates;
mod members;
mod status;
mod validate;

pub use aggregates::{Aggregates, Conflict, Source, Zone};
pub use status::plan;
pub use validate::{WEIGHT_MULTIPLIERS, validate};
