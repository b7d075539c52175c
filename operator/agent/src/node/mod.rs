//! What does this node tell of itself?

mod report;
mod status;

pub use report::{Reporter, Wake, run};
