//! Routers: which addresses each needs, and what is to be said of it. What its rows are is the back end's to know.

mod port;
mod status;

pub use port::needs;
pub use status::{Seen, plan};
