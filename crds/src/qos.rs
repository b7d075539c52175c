use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What guests may send and be sent, and how that is marked: Neutron's QoS policy.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Qos {
    /// What a guest sends, at most; no limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<BandwidthLimit>,
    /// What it is sent, at most; no limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<BandwidthLimit>,
    /// The DSCP field of what it sends (RFC 2474), such as 46 for voice; as the guest set it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 63))]
    pub dscp_mark: Option<u8>,
}

/// How much in a second.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BandwidthLimit {
    /// kbit/s, a kbit being 1,000 bits.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_kbps: u32,
    /// How much may come at once after a pause, in kbit; as much as in a second when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub burst_kbit: Option<u32>,
}
