//! From Networks, Ports, Routers, FloatingIPs, LoadBalancers and SecurityGroups to the rows of OVN's north-bound database.
//! Pure: no client, no clock.
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
//! | what DHCP tells one guest alone | `DHCP_Options` | uid, `/`, the Port's uid, `/dhcp/`, the subnet's name |
//! | names of the guests | `DNS` | uid, `/dns` |
//! | Port | `Logical_Switch_Port`, called by the Port's uid | uid, `/`, the Port's uid |
//! | what it may send, and be sent | `QoS`, one each | uid, `/qos/`, the Port's uid, `/from` or `/to` |
//! | a Router's plug in a Network | `Logical_Switch_Port` of type `router` | the Network's uid, `/router-`, the Router's |
//! | Router | `Logical_Router` | the Router's uid |
//! | its port in a Network | `Logical_Router_Port` | uid, `/port/`, the Network's uid |
//! | a host that can be its gateway | `Gateway_Chassis` | uid, `/gateway/`, the Network's uid, `/`, the host |
//! | its routes | `Logical_Router_Static_Route` | uid, `/route/`, where to, `/`, by which way |
//! | FloatingIP | `NAT` of type `dnat_and_snat` | the Router's uid, `/floating/`, the FloatingIP's |
//! | its forwarded ports, by protocol | `Load_Balancer` | the Router's uid, `/forward/`, the FloatingIP's, `/`, the protocol |
//! | the address that guests go out with | `NAT` of type `snat` | uid, `/snat/`, the guests' range |
//! | LoadBalancer, by protocol | `Load_Balancer` | its uid, `/`, the protocol |
//! | what answers for its address | `Logical_Router` with one port | its uid, and as a Router's |
//! | the plug of that | `Logical_Switch_Port` of type `router` | the Network's uid, `/balancer-`, the LoadBalancer's |
//! | how members are asked | `Load_Balancer_Health_Check` | its uid, `/check/`, the protocol, `/`, the address and port |
//! | what keeps its Ports closed | `Port_Group`, and `ACL`s | uid, `/secured` and `/acl/` |
//! | SecurityGroup | `Port_Group` | `sg/`, its uid |
//! | a rule of it | `ACL` | the same, `/`, a hash of what it matches |
//! | AddressGroup | two `Address_Set`s | `ag/`, its uid, `/ip4` or `/ip6` |

mod cloud;
mod dhcp;
mod floating_ip;
mod holders;
mod key;
mod load_balancer;
mod names;
mod qos;
mod router;
mod security_group;
mod switch;

pub use cloud::{Cloud, Refusal, Wanted};
pub use key::{Whose, group_of_problem, of_problem, whose};
pub use router::GatewayHosts;
pub use security_group::whose_group;
