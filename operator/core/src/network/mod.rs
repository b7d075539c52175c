//! Networks: what a valid one is, and who has which address.

mod addresses;
mod backend;
mod held;
mod ipv6;
mod port;
mod sharing;
mod status;
mod validate;

pub use addresses::{AddressError, Allocated, NetworkAddresses, mac_address};
pub use backend::{Backend, NO_QOS};
pub use held::{Need, Purpose, is_held_by};
pub use port::{PortSeen, port_status};
pub use status::plan;
pub use validate::{Egress, Segment, ValidNetwork, ValidSubnet, validate};
