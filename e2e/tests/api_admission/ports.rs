//! Ports that users make: their file from Git stays as it is, and whose they are is the controller's to say.

use kube::ResourceExt;
use serde_json::{Value, json};
use virga_crds::{Allocation, Network, Port};
use virga_e2e::objects::network;
use virga_e2e::{BOUND, eventually, is_ready, ready_because, with_temp_namespace};

use crate::process::Controller;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_s_manifest_can_be_applied_and_replaced_again_and_changes_nothing() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        let mut two = network("front", "10.9.0.0/24");
        let v6: Value = json!({"name": "v6", "cidr": "fd00:9::/64"});
        two.spec.subnets.push(serde_json::from_value(v6).unwrap());
        let v4 = two.spec.subnets[0].name.clone();
        t.create(two).await;
        t.await_condition::<Network>("front", "Ready", is_ready).await;
        let manifest = format!(
            "apiVersion: virga.dev/v1alpha1\nkind: Port\nmetadata: {{name: kept, namespace: {}}}\n\
             spec:\n  network: front\n  addresses: [{{subnet: {v4}, ip: 10.9.0.5}}]\n",
            t.namespace
        );
        // Before the Network is known to the webhook, all is taken.
        t.cluster.apply(&manifest);
        let given = t.await_condition::<Port>("kept", "given", is_ready).await;
        assert_eq!(
            (given.spec.allocation, given.spec.addresses.len()),
            (Some(Allocation::Given), 2)
        );
        assert_eq!(
            given.spec.addresses.iter().filter(|held| held.ip == "10.9.0.5").count(),
            1
        );

        let again = async || t.api::<Port>().get("kept").await.unwrap();
        for args in [
            ["apply", "--filename=-"].as_slice(),
            &["apply", "--server-side", "--force-conflicts", "--filename=-"],
            &["replace", "--filename=-"],
            &["diff", "--filename=-"],
        ] {
            let said = t.cluster.kubectl_says_of(args, &manifest);
            assert!(said.ok, "{args:?}: {}", said.stderr);
            assert_eq!(again().await.spec, given.spec, "{args:?}");
        }
        assert_eq!(again().await.uid(), given.uid());

        // What it was given is the schema's to keep, and whose it is the controller's to say.
        let other = manifest.replace("10.9.0.5", "10.9.0.6");
        let said = t.cluster.apply_says(&other).stderr;
        assert!(said.contains("network, mac and addresses are immutable"), "{said}");
        for (field, value) in [("nodeName", "node-1"), ("instance", "web-1"), ("hostname", "web-1")] {
            let patch = json!({"spec": {field: value}}).to_string();
            let args = [
                "patch",
                "port",
                "kept",
                "--type=merge",
                "--patch",
                &patch,
                "--namespace",
                &t.namespace,
            ];
            let said = t.cluster.kubectl_says(&args).stderr;
            assert!(
                said.contains(&format!("spec.{field}: is set by the controller only")),
                "{said}"
            );
        }
        let held = manifest.replace("kept", "stolen") + "  allocation: Given\n";
        let said = t.cluster.apply_says(&held).stderr;
        assert!(
            said.contains("spec.allocation: is set by the controller only"),
            "{said}"
        );
        let wrong = manifest.replace("kept", "wrong").replace("10.9.0.5", "10.8.0.5");
        let said = t.cluster.apply_says(&wrong).stderr;
        assert!(said.contains("10.8.0.5 is not in subnet"), "{said}");
        let taken = manifest.replace("kept", "taken");
        eventually("the second one is told whose the address is", BOUND, async || {
            let said = t.cluster.apply_says(&taken).stderr;
            let told = said.contains("10.9.0.5 belongs to Port \"kept\": it waits");
            told.then_some(()).ok_or(said)
        })
        .await;
        let refused = ready_because("AddressInUse", "10.9.0.5 belongs to ");
        t.await_condition::<Port>("taken", "refused", refused).await;
        t.delete::<Port>(BOUND, "kept").await;
        let next = t.await_condition::<Port>("taken", "given", is_ready).await;
        assert!(next.spec.addresses.iter().any(|held| held.ip == "10.9.0.5"));
        t.delete::<Port>(BOUND, "taken").await;
    })
    .await;
}
