//! Images: who fetches each first, and what the nodes' reports say of it; which properties mean something.

mod plan;
mod properties;

pub use plan::{Importer, Report, plan};
pub use properties::{contradictions, required_traits, validate_properties};
