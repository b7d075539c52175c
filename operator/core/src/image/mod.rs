//! Images: who fetches each first, and what the nodes' reports say of it.

mod plan;

pub use plan::{Importer, Report, plan};
