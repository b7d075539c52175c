//! Networks: what a valid one is, and who has which address.

mod addresses;
mod backend;
mod port;
mod status;
mod validate;

pub use addresses::{AddressError, Allocated, NetworkAddresses, mac_address};
pub use backend::Backend;
pub use port::{PortSeen, port_status};
pub use status::{Carried, plan};
pub use validate::{Egress, Segment, ValidNetwork, ValidSubnet, validate};
