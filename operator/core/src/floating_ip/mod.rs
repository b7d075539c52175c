//! Floating IPs: the address that each has, where it is to lead, and what is to be said of it.

mod port;
mod status;

pub use port::{holds, need, port};
pub use status::{Carried, Seen, plan};
