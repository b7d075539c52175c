//! How many writes does the API server carry out? By its own counters.

use std::collections::BTreeMap;

use http::Request;
use kube::Client;

use super::Error;

/// Successful writes since the API server began, by `resource` or `resource/subresource`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writes(BTreeMap<String, u64>);

/// Without deletions: those of the Instance before may still be under way.
const VERBS: [&str; 4] = ["POST", "PUT", "PATCH", "APPLY"];

impl Writes {
    /// The counters now.
    pub async fn now(client: &Client) -> Result<Self, Error> {
        let request = Request::get("/metrics").body(Vec::new());
        let request = request.map_err(|error| Error::unreadable("the request for metrics", &error.to_string()))?;
        let text = client
            .request_text(request)
            .await
            .map_err(Error::api("reading the apiserver's metrics"))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut writes = BTreeMap::new();
        for line in text.lines() {
            let Some((labels, value)) = line
                .strip_prefix("apiserver_request_total{")
                .and_then(|rest| rest.split_once("} "))
            else {
                continue;
            };
            let label = |name: &str| {
                let mut pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
                let found = pairs.find(|(key, _)| *key == name);
                found.map_or("", |(_, value)| value.trim_matches('"'))
            };
            let written =
                VERBS.contains(&label("verb")) && label("code").starts_with('2') && label("dry_run").is_empty();
            let ours = ["virga.dev", "events.k8s.io"].contains(&label("group"));
            if !(written && ours) {
                continue;
            }
            let resource = match label("subresource") {
                "" => label("resource").to_owned(),
                part => format!("{}/{part}", label("resource")),
            };
            // A counter is a whole number that the text format may write as 1e+06.
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count of requests"
            )]
            let value = value.trim().parse::<f64>().unwrap_or(0.0) as u64;
            *writes.entry(resource).or_insert(0) += value;
        }
        Self(writes)
    }

    /// What was added since `before`, without what did not change.
    pub fn since(&self, before: &Self) -> BTreeMap<String, u64> {
        let grown = self.0.iter().map(|(resource, count)| {
            let earlier = before.0.get(resource).copied().unwrap_or(0);
            (resource.clone(), count.saturating_sub(earlier))
        });
        grown.filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# TYPE apiserver_request_total counter
apiserver_request_total{code="201",component="apiserver",dry_run="",group="virga.dev",resource="instances",scope="resource",subresource="",verb="POST",version="v1alpha1"} 3
apiserver_request_total{code="422",component="apiserver",dry_run="",group="virga.dev",resource="instances",scope="resource",subresource="",verb="POST",version="v1alpha1"} 9
apiserver_request_total{code="201",component="apiserver",dry_run="All",group="virga.dev",resource="instances",scope="resource",subresource="",verb="POST",version="v1alpha1"} 9
apiserver_request_total{code="200",component="apiserver",dry_run="",group="virga.dev",resource="instances",scope="resource",subresource="status",verb="APPLY",version="v1alpha1"} 1e+02
apiserver_request_total{code="200",component="apiserver",dry_run="",group="virga.dev",resource="instances",scope="cluster",subresource="",verb="LIST",version="v1alpha1"} 9
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 9
"#;

    #[test]
    fn only_writes_that_were_carried_out_count() {
        let writes = Writes::parse(TEXT);
        let expected = [("instances", 3), ("instances/status", 100)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(writes.0, BTreeMap::from(expected));
        assert!(writes.since(&writes).is_empty());
        assert_eq!(writes.since(&Writes::default()).len(), 2);
    }
}
