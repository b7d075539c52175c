//! What was decided when it was placed, or refused? By the leader's memory, else by the Instance's own status.

use kube::{Client, ResourceExt};
use serde::Serialize;
use virga_controller::scheduling::record::Recorded;
use virga_crds::{Instance, InstanceScheduling};

use super::{System, leader};

/// A decision that was made, and where it was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "from", content = "decision")]
pub enum Record {
    /// In the leader's memory: with the names of hosts, and operators' words.
    Leader(Recorded),
    /// In the Instance's status: counts and weights.
    Status(InstanceScheduling),
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The last decision, if anybody knows of one.
    pub recorded: Option<Record>,
    /// Why it is not from the leader, when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_from_leader: Option<String>,
}

pub(super) async fn find(client: &Client, system: &System, instance: &Instance) -> Found {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    let uid = instance.uid().unwrap_or_default();
    let why = match leader::decisions(client, system, &namespace, &name).await {
        // One of that name may have been deleted, or not be created yet.
        Ok(kept) => match kept.into_iter().find(|kept| kept.uid == uid) {
            Some(kept) => {
                return Found {
                    recorded: Some(Record::Leader(kept)),
                    not_from_leader: None,
                };
            }
            None => {
                "it keeps no decision on this Instance: it was made before it led, or many were made since".to_owned()
            }
        },
        Err(error) => error.to_string(),
    };
    let status = instance.status.as_ref().and_then(|status| status.scheduling.clone());
    Found {
        recorded: status.map(Record::Status),
        not_from_leader: Some(why),
    }
}
