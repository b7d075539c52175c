//! The chart's objects on the real apiserver: all are valid, and an agent can do no more than it must.

// In tests a panic is the report.
#![allow(clippy::unwrap_used)]

mod agent_rights;
mod project_roles;
mod rendering;

use virga_e2e::{Cluster, checkout};

const SYSTEM: &str = "virga-system";
const CHART: &str = "charts/virga";

fn chart() -> String {
    checkout().join(CHART).to_string_lossy().into_owned()
}

/// The chart's objects without its definitions, which are installed already.
fn rendered(cluster: &Cluster, only: &[&str]) -> String {
    let chart = chart();
    let mut args = vec!["template", "virga", &chart, "--namespace", SYSTEM];
    for template in only {
        args.extend(["--show-only", template]);
    }
    cluster.helm(&args)
}

/// The cluster with the namespace, accounts, roles and policies of the chart; the policies are in force.
fn with_the_chart_s_rules() -> &'static Cluster {
    let cluster = Cluster::api_only();
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {SYSTEM}}}\n"
    ));
    cluster.apply(&rendered(
        cluster,
        &[
            "templates/rbac-agent.yaml",
            "templates/rbac-controller.yaml",
            "templates/rbac-projects.yaml",
            "templates/policies.yaml",
        ],
    ));
    cluster
}
