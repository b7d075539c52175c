//! What a libvirt network should be ([`NetworkSpec`]), what it is ([`NetworkInfo`]), and the way from one to the other
//! ([`diff`]).

mod diff;
#[cfg(test)]
mod fixtures;
mod hosts_file;
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

pub(crate) use hosts_file::{read_hosts, write_hosts};
pub(crate) use overlap::{Range, overlap, ranges, ranges_of_xml};
pub(crate) use read::{Definition, read};
pub(crate) use xml::{change_xml, to_xml_without_hosts};
