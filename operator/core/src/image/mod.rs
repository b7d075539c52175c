//! Images: who fetches each first, and what the nodes' reports say of it; which properties mean something.

mod inherited;
mod plan;
mod properties;
mod snapshot;

pub use inherited::with_inherited;
pub use plan::{Importer, Origin, Report, plan};
pub use properties::{contradictions, required_traits, validate_properties};
pub use snapshot::must_keep;
