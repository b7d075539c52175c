//! What does a failed wait tell? What somebody would look up next: the object, its events, the logs.

use std::fmt::Write;

use crate::Cluster;

/// Lines of a log.
const TAIL: &str = "--tail=12";
const LINES: usize = 60;
const WIDTH: usize = 320;

/// The object as YAML, the last events of its namespace, and the ends of Virga's logs where it runs.
pub(crate) fn of(cluster: &Cluster, kind: &str, namespace: &str, name: &str) -> String {
    let mut report = String::new();
    let mut part = |title: &str, args: &[&str]| {
        let said = cluster.kubectl_says(args);
        let text = [said.stdout, said.stderr].concat();
        if !text.trim().is_empty() {
            let _ = write!(report, "--- {title}\n{}\n", tail(&text));
        }
    };
    part(
        "the object",
        &["get", kind, name, "--namespace", namespace, "--output=yaml"],
    );
    part(
        "the last events",
        &[
            "get",
            "events",
            "--namespace",
            namespace,
            "--sort-by=.metadata.creationTimestamp",
        ],
    );
    for component in ["controller", "agent"] {
        let selector = format!("--selector=app.kubernetes.io/component={component}");
        part(
            &format!("the {component}'s logs"),
            &["logs", "--namespace=virga-system", "--prefix", TAIL, &selector],
        );
    }
    report
}

fn tail(text: &str) -> String {
    let all: Vec<String> = text.lines().map(|line| line.chars().take(WIDTH).collect()).collect();
    all[all.len().saturating_sub(LINES)..].join("\n")
}
