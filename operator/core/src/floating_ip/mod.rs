//! Floating IPs: the address that each has, where it is to lead, and what is to be said of it.

mod port;
mod status;

pub use port::need;
pub use status::{Seen, plan};
