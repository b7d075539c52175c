//! Networks: what a valid one is, and who has which address.

mod addresses;
mod backend;
mod dhcp_options;
mod held;
mod ipv6;
mod port;
mod sharing;
mod status;
mod users_port;
mod validate;

pub use addresses::{AddressError, Allocated, NetworkAddresses, mac_address};
pub use backend::{Backend, NO_QOS};
pub use dhcp_options::{NO_OPTIONS, told as dhcp_option};
pub use held::{Need, Purpose, is_held_by};
pub use port::{PortSeen, port_status};
pub use status::plan;
pub use users_port::{
    as_interface, holder_uid, is_given, is_going, is_port_of, is_users, validate_addresses, validate_port, wanted,
};
pub use validate::{Egress, Segment, ValidNetwork, ValidSubnet, validate};
