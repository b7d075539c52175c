//! Scripts run in a guest, through its agent. What they print is on the guest's console.

use kube::ResourceExt;
use virga_crds::Instance;
use virga_e2e::{BOUND, eventually, on_node};
use virga_lab::Node;

use crate::domain_of;

/// Runs a script once; it may go on when this returns.
pub fn run(node: &Node, instance: &Instance, script: &str) {
    let script = format!("({script}) >/dev/console 2>&1");
    let command = serde_json::json!({
        "execute": "guest-exec",
        "arguments": {"path": "/bin/sh", "arg": ["-c", script]},
    });
    on_node::run(
        node,
        &[
            "virsh",
            "qemu-agent-command",
            &domain_of(instance),
            &command.to_string(),
        ],
    );
}

/// Waits until the console has this word.
pub async fn said(node: &Node, instance: &Instance, word: &str) {
    says(node, instance, "", word).await;
}

/// Runs a script again and again, until the console has this word.
pub async fn says(node: &Node, instance: &Instance, script: &str, word: &str) {
    let uid = instance.uid().unwrap();
    eventually(&format!("the guest says {word}"), BOUND, async || {
        if !script.is_empty() {
            run(node, instance, script);
        }
        let console = on_node::console(node, &uid);
        console.contains(word).then_some(()).ok_or(console)
    })
    .await;
}
