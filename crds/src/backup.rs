use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::Quiesce;

/// Images of an Instance's root disk that are made again and again, of which some are kept: Nova's `createBackup`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("duration(self.every) >= duration('15m') && duration(self.every) <= duration('8784h')").message("every: from 15m to 8784h"),
    validation = kube::core::Rule::new("!has(self.startingAt) || (self.startingAt >= timestamp('2020-01-01T00:00:00Z') && self.startingAt < timestamp('2100-01-01T00:00:00Z'))").message("startingAt must be a time of this century, from 2020 on"),
)]
pub struct BackupSchedule {
    /// How long from one to the next, in hours and minutes, such as `24h` or `1h30m`.
    #[schemars(
        length(min = 2, max = 10),
        regex(pattern = r"^([1-9][0-9]{0,3}h)?([1-9][0-9]{0,5}m)?$")
    )]
    pub every: String,
    /// The first; the others are that many times `every` later. When absent, `every` after the Instance's creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_at: Option<Time>,
    /// How many are kept.
    #[schemars(range(min = 1, max = 100))]
    pub rotation: u16,
    /// Whether its file systems are made to stand still while each copy begins.
    #[serde(default)]
    #[schemars(extend("default" = "WhenPossible"))]
    pub quiesce: Quiesce,
}
