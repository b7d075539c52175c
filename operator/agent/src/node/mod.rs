//! What does this node tell of itself?

mod cpu_monitor;
mod report;
mod status;

pub use report::{Reporter, Wake, run};
