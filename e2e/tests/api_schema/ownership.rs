//! One writer a field, by server-side apply: what each says stays what it said.

use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use virga_crds::{Instance, InstanceSpec, managers};
use virga_e2e::objects::instance;
use virga_e2e::{Case, Cluster, condition, with_temp_namespace};

async fn apply_status(t: &Case, manager: &str, status: Value) -> Result<Instance, kube::Error> {
    let object = json!({
        "apiVersion": "virga.dev/v1alpha1", "kind": "Instance", "metadata": {"name": "web-1"}, "status": status,
    });
    t.api::<Instance>()
        .patch_status("web-1", &PatchParams::apply(manager), &Patch::Apply(&object))
        .await
}

fn said(kind: &str, status: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": "Tested", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    })
}

#[tokio::test]
async fn conditions_of_one_type_each_can_have_writers_of_their_own() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        t.create(instance("web-1", "m1.small")).await;
        let scheduled = json!({"conditions": [said("Scheduled", "True")]});
        apply_status(&t, managers::CONTROLLER, scheduled.clone()).await.unwrap();
        let running = json!({"conditions": [said("Running", "True")]});
        let both = apply_status(&t, managers::AGENT, running).await.unwrap();
        assert!(condition(&both, "Scheduled").is_some() && condition(&both, "Running").is_some());

        // What a writer no longer says is gone, and what the other says stays.
        let one = apply_status(&t, managers::AGENT, json!({})).await.unwrap();
        assert!(condition(&one, "Scheduled").is_some() && condition(&one, "Running").is_none());

        // Nobody writes over another's by accident.
        let conflict = apply_status(&t, managers::AGENT, json!({"conditions": [said("Scheduled", "False")]})).await;
        assert!(matches!(conflict, Err(kube::Error::Api(status)) if status.code == 409));
    })
    .await;
}

#[tokio::test]
async fn saying_the_same_again_changes_nothing() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        t.create(instance("web-1", "m1.small")).await;
        let status = json!({"state": "Building", "conditions": [said("Ready", "False")]});
        let first = apply_status(&t, managers::AGENT, status.clone()).await.unwrap();
        let second = apply_status(&t, managers::AGENT, status).await.unwrap();
        assert_eq!(first.metadata.resource_version, second.metadata.resource_version);
    })
    .await;
}

#[tokio::test]
async fn a_spec_can_not_be_written_through_the_status() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        t.create(instance("web-1", "m1.small")).await;
        let change = json!({"spec": {"powerState": "Stopped"}, "status": {"state": "Active"}});
        let after = t
            .api::<Instance>()
            .patch_status("web-1", &PatchParams::default(), &Patch::Merge(&change))
            .await;
        let after = after.unwrap();
        assert_eq!(after.spec.power_state, virga_crds::PowerState::Running);
        assert_eq!(after.metadata.generation, Some(1));
    })
    .await;
}

#[tokio::test]
async fn a_reboot_from_before_the_last_one_is_refused_and_what_is_there_may_stay() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        t.create(instance("web-1", "m1.small")).await;
        let asked = async |at: &str| {
            let change = json!({"spec": {"reboot": {"at": at}}});
            let patch = Patch::Merge(&change);
            t.api::<Instance>()
                .patch("web-1", &PatchParams::default(), &patch)
                .await
        };
        asked("2026-11-22T10:00:00Z").await.unwrap();
        asked("2026-11-22T09:00:00Z").await.unwrap();
        let done = json!({"reboot": {"at": "2026-11-22T09:30:00Z", "finishedAt": "2026-11-22T09:31:00Z"}});
        // It was begun meanwhile: the agent can say so whatever spec asks for.
        apply_status(&t, managers::AGENT, done).await.unwrap();
        let label = json!({"metadata": {"labels": {"a": "b"}}});
        t.patch::<Instance>("web-1", label).await;
        let refused = asked("2026-11-22T08:00:00Z").await.unwrap_err().to_string();
        assert!(refused.contains("not before status.reboot.at"), "{refused}");
        asked("2026-11-22T10:00:00Z").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_agent_sees_its_own_node_s_instances_only() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        for (name, node) in [("a", Some("node-1")), ("b", Some("node-2")), ("c", None)] {
            let spec = InstanceSpec {
                node_name: node.map(str::to_owned),
                ..instance(name, "m1.small").spec
            };
            t.create(Instance::new(name, spec)).await;
        }
        let names = async |selector: &str| -> Vec<String> {
            let found = t
                .api::<Instance>()
                .list(&ListParams::default().fields(selector))
                .await
                .unwrap();
            found
                .items
                .into_iter()
                .filter_map(|found| found.metadata.name)
                .collect()
        };
        assert_eq!(names("spec.nodeName=node-1").await, ["a"]);
        assert_eq!(names("spec.nodeName!=node-1").await, ["b", "c"]);
        // What is not bound yet is selected by the empty name.
        assert_eq!(names("spec.nodeName=").await, ["c"]);
    })
    .await;
}
