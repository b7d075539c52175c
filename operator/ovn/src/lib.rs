//! From Networks and Ports to the rows of OVN's north-bound database. Pure: no client, no clock.
//!
//! [`Cloud`] is what the cluster wants, kept from its watches, and knows what has changed since it was last written.
//! [`Cloud::take`] makes the rows of that, and of that only, for [`virga_ovsdb::reconcile::plan`].
//!
//! | what | row | key |
//! |---|---|---|
//! | Network | `Logical_Switch` | the Network's uid |
//! | its way into a physical network | `Logical_Switch_Port` of type `localnet` | uid, `/localnet` |
//! | the address that answers DHCP and DNS | `Logical_Switch_Port` of type `localport` | uid, `/service` |
//! | subnet with DHCP | `DHCP_Options` | uid, `/dhcp/`, the subnet's name |
//! | names of the guests | `DNS` | uid, `/dns` |
//! | Port | `Logical_Switch_Port`, called by the Port's uid | uid, `/`, the Port's uid |

mod cloud;
mod dhcp;
mod key;
mod switch;

pub use cloud::{Cloud, Refusal, Wanted};
pub use key::{Whose, of_problem, whose};
