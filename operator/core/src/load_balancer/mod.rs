//! Load balancers: the addresses that each needs, who its members are, and what is to be said of it.

mod members;
mod port;
mod status;

pub use members::{MOST_MEMBERS, is_served, members_network};
pub use port::needs;
pub(crate) use status::is_sent;
pub use status::{Check, Health, Reach, Seen, SeenMember, plan};
