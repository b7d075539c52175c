//! What a libvirt network should be ([`NetworkSpec`]), what it is ([`NetworkInfo`]), and the way from one to the other
//! ([`diff`]).

mod diff;
mod mac;
mod overlap;
mod read;
mod spec;
mod validate;
mod xml;

pub use diff::{HostChange, NetworkDiff, diff};
pub use mac::MacAddress;
pub use read::from_xml;
pub use spec::{
    DHCP_LEASE, Dhcp, DhcpHost, DnsHost, ForwardMode, NetworkInfo, NetworkSpec, NetworkUpdate, Route, SubnetSpec,
};
pub use xml::to_xml;

pub(crate) use overlap::{Range, overlap, ranges, ranges_of_xml};
pub(crate) use xml::change_xml;
