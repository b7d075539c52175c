//! May a new leader decide yet? Only when it has seen every binding of the leader before it.
//!
//! A store that has been filled may still be behind: what the last leader bound a moment ago may not have come through
//! the watch. So a new leader asks the API server itself what there is (a list without a `resourceVersion` is read from
//! etcd by quorum), and waits until its store has caught up with that. A create that the old leader has admitted and that
//! is not in etcd yet is not waited for: the agent's own check of its room is what stands behind that.

use std::{collections::HashMap, time::Duration};

use kube::{Api, Client, ResourceExt, api::ListParams};
use tokio::time::{Instant, timeout};
use virga_crds::Instance;
use virga_runtime::class::chain;

use super::{
    index::key_of,
    state::{Key, Scheduler},
};

const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the watch may take to catch up before the API server is asked again.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const PAGE: u32 = 500;
/// How often the API server is asked before a new leader goes on without what it has not seen.
const ROUNDS: u32 = 3;

/// Lets the scheduler decide once it knows all that there is. Drop it when leadership ends.
pub async fn open(client: &Client, scheduler: &Scheduler) {
    for round in 1.. {
        let behind = match bindings(client).await {
            Ok(versions) => behind(scheduler, &versions).await,
            Err(error) => {
                tracing::warn!(error, "listing the Instances: not scheduling yet");
                tokio::time::sleep(Duration::from_secs(2)).await;
                continue;
            }
        };
        let Some((namespace, name)) = behind.first() else { break };
        if round >= ROUNDS {
            // One that this version can't read never comes into the store; it must not stop all others.
            tracing::error!(
                count = behind.len(),
                namespace,
                name,
                "scheduling without Instances that were not seen"
            );
            break;
        }
        tracing::warn!(
            count = behind.len(),
            namespace,
            name,
            "the watch of Instances is behind: not scheduling yet"
        );
    }
    scheduler.rebuild();
    scheduler.open();
    tracing::info!("scheduling");
}

/// The versions of all Instances that there are.
async fn bindings(client: &Client) -> Result<HashMap<Key, u64>, String> {
    let api = Api::<Instance>::all(client.clone());
    let mut versions = HashMap::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = match timeout(CALL_TIMEOUT, api.list_metadata(&page)).await {
            Ok(Ok(list)) => list,
            Ok(Err(error)) => return Err(chain(&error)),
            Err(_) => return Err("no answer".to_owned()),
        };
        versions.extend(list.items.iter().map(|item| (key_of(item), version(item))));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(versions),
        }
    }
}

/// Waits until the store holds all of these, each as new as it was listed, and returns those that it does not.
async fn behind(scheduler: &Scheduler, versions: &HashMap<Key, u64>) -> Vec<Key> {
    let until = Instant::now() + PATIENCE;
    let mut missing: Vec<(&Key, u64)> = versions.iter().map(|(key, version)| (key, *version)).collect();
    loop {
        missing.retain(|(key, listed)| {
            let seen = scheduler.stores.instance(&key.0, &key.1);
            seen.is_none_or(|seen| version(seen.as_ref()) < *listed)
        });
        if missing.is_empty() || Instant::now() >= until {
            return missing.into_iter().map(|(key, _)| key.clone()).collect();
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Kubernetes promises since 1.35 that versions of one resource compare as numbers; they always did.
fn version(object: &impl ResourceExt) -> u64 {
    object
        .resource_version()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}
