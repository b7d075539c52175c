//! Which replica leads, and how do calls find it?
//!
//! The scheduling webhook's Service selects the Pod that carries [`labels::LEADER`]. A new leader labels its own Pod
//! first and then takes the label from all others: in between, two answer, and the one that does not lead admits
//! unbound. The other order would leave a time in which nobody answers.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use serde_json::json;
use tokio::time::timeout;
use virga_crds::{labels, managers};
use virga_runtime::class::chain;

/// The name of the Lease that replicas compete for. An agent's begins with `virga-`, so no node can have this name.
pub const LEASE: &str = "leader.virga.dev";

const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(2);

/// Registers the gauge that says whether this process leads.
pub fn gauge(registry: &mut Registry) -> Gauge {
    let gauge = Gauge::default();
    registry.register("leader", "Whether this process leads: 1 or 0", gauge.clone());
    gauge
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{what}")]
    Api { what: String, source: Box<kube::Error> },
    #[error("{what}: no answer within {} s", CALL_TIMEOUT.as_secs())]
    TimedOut { what: String },
}

/// Makes the label say that this Pod leads, and no other. Tries until it has done so: drop it when leadership ends.
pub async fn label_own_pod(client: Client, namespace: &str, pod: &str) {
    let api = Api::<Pod>::namespaced(client, namespace);
    while let Err(error) = try_label(&api, pod).await {
        tracing::warn!(error = chain(&error), "labelling the leader's Pod");
        tokio::time::sleep(RETRY).await;
    }
    tracing::info!(pod, "labelled this Pod as the leader's");
}

async fn try_label(api: &Api<Pod>, own: &str) -> Result<(), Error> {
    set_label(api, own, Some("true")).await?;
    let others = ListParams::default().labels(&format!("{}=true", labels::LEADER));
    let labelled = within("listing the Pods that are labelled as the leader's", api.list(&others)).await?;
    for pod in labelled.iter().map(ResourceExt::name_any).filter(|name| name != own) {
        set_label(api, &pod, None).await?;
    }
    Ok(())
}

async fn set_label(api: &Api<Pod>, pod: &str, value: Option<&str>) -> Result<(), Error> {
    let patch = json!({"metadata": {"labels": {labels::LEADER: value}}});
    let params = PatchParams {
        field_manager: Some(managers::CONTROLLER.into()),
        ..PatchParams::default()
    };
    let what = format!("labelling Pod {pod}");
    match within(what, api.patch_metadata(pod, &params, &Patch::Merge(&patch))).await {
        Ok(_) => Ok(()),
        // A Pod that is gone carries no label. Our own can't be gone: we run in it.
        Err(Error::Api { source, .. }) if value.is_none() && is_not_found(&source) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

async fn within<T>(what: impl Into<String>, call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Api {
            what: what.into(),
            source: Box::new(source),
        }),
        Err(_) => Err(Error::TimedOut { what: what.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::api::ObjectMeta;
    use std::collections::BTreeMap;
    use virga_testkit::{FakeApi, Fault};

    fn pod(name: &str, leads: bool) -> Pod {
        let labels = leads.then(|| BTreeMap::from([(labels::LEADER.to_owned(), "true".to_owned())]));
        let metadata = ObjectMeta {
            name: Some(name.into()),
            namespace: Some("virga-system".into()),
            labels,
            ..ObjectMeta::default()
        };
        Pod {
            metadata,
            ..Pod::default()
        }
    }

    fn leaders(api: &FakeApi) -> Vec<String> {
        let leads = |pod: &Pod| pod.labels().get(labels::LEADER).is_some_and(|value| value == "true");
        let mut names: Vec<_> = api
            .list::<Pod>()
            .iter()
            .filter(|pod| leads(pod))
            .map(ResourceExt::name_any)
            .collect();
        names.sort();
        names
    }

    #[tokio::test(start_paused = true)]
    async fn the_new_leader_is_labelled_before_the_old_one_loses_its_label() {
        let api = FakeApi::new();
        api.create(&pod("old", true));
        api.create(&pod("new", false));
        label_own_pod(api.client(), "virga-system", "new").await;
        assert_eq!(leaders(&api), ["new"]);
        let writes: Vec<_> = api
            .log()
            .iter()
            .filter(|request| !request.body.is_null())
            .filter_map(|request| request.name.clone())
            .collect();
        assert_eq!(writes, ["new", "old"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_tried_again_until_one_pod_is_labelled() {
        let api = FakeApi::new();
        api.create(&pod("old", true));
        api.create(&pod("new", false));
        api.inject(Fault::status(500).resource("pods").times(3));
        label_own_pod(api.client(), "virga-system", "new").await;
        assert_eq!(leaders(&api), ["new"]);
    }
}
