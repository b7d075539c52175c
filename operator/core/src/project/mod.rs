//! Projects: the namespace that each owns, and who has which role in it.

mod plan;

pub use plan::{CREATED, Inside, Seen, Step, plan, role_binding};
