//! What may be asked for an Instance's root disk: to be made anew, or to be looked at from a rescue image.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::ImageRef;

/// A rebuild that is asked for.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("self.at >= timestamp('2020-01-01T00:00:00Z') && self.at < timestamp('2100-01-01T00:00:00Z')").message("at must be a time of this century, from 2020 on"))]
pub struct Rebuild {
    /// When. A time that has passed is now; one before the Instance was created is none.
    pub at: Time,
}

/// A rebuild that was begun.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RebuildStatus {
    /// Which: the `at` that asked for it.
    pub at: Time,
    /// When the machine had its new root disk; absent while that is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// What an Instance is rescued with.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rescue {
    /// The Image that the rescue disk is made from; the Instance's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
}
