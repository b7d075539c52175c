//! What may be asked for an Instance's size, and what came of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BuiltFlavor;

/// When a resize is final.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResizePolicy {
    /// As soon as the machine has its new size.
    #[default]
    Auto,
    /// When spec.confirmResize names the new Flavor. Until then the host keeps room for both sizes, and the root disk does
    /// not grow.
    Confirm,
}

/// The last resize that was begun.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResizeStatus {
    /// The size that it had.
    pub from: BuiltFlavor,
    /// The size that it was to get.
    pub to: BuiltFlavor,
    /// When it was begun.
    pub at: Time,
    /// When the machine had its new size; absent while it is being changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// When it became final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_at: Option<Time>,
    /// When the machine had its old size again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverted_at: Option<Time>,
}

impl ResizeStatus {
    /// Whether it is neither final nor taken back, so that both sizes count.
    pub fn is_open(&self) -> bool {
        self.confirmed_at.is_none() && self.reverted_at.is_none()
    }
}

/// What the leading controller says of a resize: the annotation `virga.dev/resize`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResizeVerdict {
    /// The Flavor that was asked for.
    pub flavor: String,
    /// The generation of the spec that asked for it: what is said of one is not said of a later one.
    pub generation: i64,
    /// The host that it is said of.
    pub host: String,
    /// Why the host has no room; absent when it has, and keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The Migration that moves the Instance to a host that has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<String>,
    /// Whether somebody deleted that Migration: no other is made for this generation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
}
