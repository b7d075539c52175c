//! Networks: what a valid one is, and who has which address.

mod addresses;
mod status;
mod validate;

pub use addresses::{AddressError, Allocated, NetworkAddresses, mac_address};
pub use status::plan;
pub use validate::{Egress, ValidNetwork, ValidSubnet, validate};
