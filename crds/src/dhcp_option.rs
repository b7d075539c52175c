use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What DHCP tells a guest besides, or instead of what its subnet says: Neutron's extra DHCP options.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DhcpOption {
    /// Which option.
    pub name: DhcpOptionName,
    /// Its value. Several addresses, domains or routes are parted by commas.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[ !#-\[\]-~]+$"))]
    pub value: String,
}

/// The options that can be told. All are of DHCP for IPv4 (RFC 2132, where no other is named).
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DhcpOptionName {
    /// 67: the file to boot.
    BootfileName,
    /// 121: routes as `destination,nextHop,…`, instead of all that the subnet tells, the default one too (RFC 3442).
    ClasslessStaticRoute,
    /// 6: name servers.
    #[serde(rename = "DNSServer")]
    DnsServer,
    /// 15: the guest's domain.
    DomainName,
    /// 119: domains that names are looked for in (RFC 3397).
    DomainSearchList,
    /// 51: how long the address is leased, in seconds.
    LeaseTime,
    /// 7: log servers.
    LogServer,
    /// 26: the largest packet, in bytes.
    #[serde(rename = "MTU")]
    Mtu,
    /// The server that a boot loader asks next (siaddr, RFC 2131).
    NextServer,
    /// 42: time servers.
    #[serde(rename = "NTPServer")]
    NtpServer,
    /// 210: what paths of PXELINUX begin with (RFC 5071).
    PathPrefix,
    /// 3: the default router.
    Router,
    /// 66: the TFTP server, by name or address.
    #[serde(rename = "TFTPServer")]
    TftpServer,
    /// 150: the TFTP server's address (RFC 5859).
    #[serde(rename = "TFTPServerAddress")]
    TftpServerAddress,
    /// 252: where to find the proxy's configuration.
    #[serde(rename = "WPAD")]
    Wpad,
}
