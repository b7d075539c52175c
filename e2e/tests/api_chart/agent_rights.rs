//! What may an agent do? Its own node's work, and no more.

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Error};
use serde_json::json;
use virga_crds::{
    Hypervisor, HypervisorSpec, Instance, InstanceSpec, Migration, MigrationSpec, MigrationType, Volume, VolumeSpec,
    managers,
};
use virga_e2e::objects::{instance, volume};
use virga_e2e::{Case, eventually, with_temp_namespace};

use crate::{SYSTEM, with_the_chart_s_rules};

/// An agent of a node: a client with the token of its Pod there.
struct Agent {
    node: String,
    client: Client,
}

impl Agent {
    /// Makes the Node, the Pod on it, and the token that the kubelet would give it.
    async fn of(t: &Case, number: u8) -> Self {
        let node = format!("{}-{number}", t.namespace);
        t.create_cluster_wide(named::<Node>(&node)).await;
        let pods: Api<Pod> = Api::namespaced(t.client.clone(), SYSTEM);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": format!("agent-{node}")},
            "spec": {
                "serviceAccountName": "virga-agent", "nodeName": node,
                "containers": [{"name": "agent", "image": "virga.local/virga-agent"}],
            },
        }))
        .unwrap();
        let pod = pods.create(&PostParams::default(), &pod).await.unwrap();
        Self {
            client: token(t, "virga-agent", Some(&pod)).await,
            node,
        }
    }

    fn hypervisor(&self) -> Hypervisor {
        Hypervisor::new(&self.node, HypervisorSpec::default())
    }
}

fn named<K: serde::de::DeserializeOwned>(name: &str) -> K {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

/// A client of a service account of ours, bound to a Pod as the kubelet does it.
async fn token(t: &Case, account: &str, pod: Option<&Pod>) -> Client {
    let accounts: Api<ServiceAccount> = Api::namespaced(t.client.clone(), SYSTEM);
    let bound = pod.map(|pod| BoundObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
    });
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: Vec::new(),
            bound_object_ref: bound,
            expiration_seconds: Some(3600),
        },
        ..TokenRequest::default()
    };
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await;
    let answer = answer.unwrap_or_else(|error| panic!("a token for {account}: {error}"));
    t.cluster.client_with_token(&answer.status.unwrap().token).await
}

async fn apply_status<K>(api: &Api<K>, name: &str, status: serde_json::Value) -> Result<K, Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}, "status": status,
    });
    let params = PatchParams::apply(managers::AGENT).force();
    api.patch_status(name, &params, &Patch::Apply(&object)).await
}

/// It was refused with these words.
#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>, words: &str) {
    match outcome {
        Err(Error::Api(status)) => {
            assert!(matches!(status.code, 403 | 422), "{status:?}");
            assert!(status.message.contains(words), "{}", status.message);
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// A policy is in force some time after it was made.
async fn policies_are_in_force(agent: &Agent) {
    eventually("the policies are in force", virga_e2e::BOUND, async || {
        let hypervisors: Api<Hypervisor> = Api::all(agent.client.clone());
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let foreign = Hypervisor::new("e2e-foreign", HypervisorSpec::default());
        match hypervisors.create(&dry_run, &foreign).await {
            Err(Error::Api(status)) if status.message.contains("its own node only") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

fn bound_to(node: &str, name: &str) -> Instance {
    let spec = InstanceSpec {
        node_name: Some(node.to_owned()),
        ..instance(name, "m1.small").spec
    };
    Instance::new(name, spec)
}

#[tokio::test]
async fn an_agent_writes_its_own_node_s_objects_and_no_other_s() {
    let cluster = with_the_chart_s_rules();
    with_temp_namespace(cluster, async |t| {
        let (own, other) = (Agent::of(&t, 1).await, Agent::of(&t, 2).await);
        policies_are_in_force(&own).await;

        // Its Hypervisor.
        let hypervisors: Api<Hypervisor> = Api::all(own.client.clone());
        hypervisors
            .create(&PostParams::default(), &own.hypervisor())
            .await
            .unwrap();
        apply_status(&hypervisors, &own.node, json!({"instances": 1}))
            .await
            .unwrap();
        refused(
            hypervisors.create(&PostParams::default(), &other.hypervisor()).await,
            "the Hypervisor of its own node only",
        );
        Api::<Hypervisor>::all(other.client.clone())
            .create(&PostParams::default(), &other.hypervisor())
            .await
            .unwrap();
        refused(
            apply_status(&hypervisors, &other.node, json!({"instances": 1})).await,
            "the Hypervisor of its own node only",
        );

        // Its Lease.
        let leases: Api<Lease> = Api::namespaced(own.client.clone(), SYSTEM);
        let lease = |node: &str| named::<Lease>(&format!("virga-{node}"));
        leases.create(&PostParams::default(), &lease(&own.node)).await.unwrap();
        let beat = Patch::Apply(json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": format!("virga-{}", own.node)}, "spec": {"holderIdentity": own.node},
        }));
        let name = format!("virga-{}", own.node);
        leases
            .patch(&name, &PatchParams::apply(managers::AGENT), &beat)
            .await
            .unwrap();
        refused(
            leases.create(&PostParams::default(), &lease(&other.node)).await,
            "the Lease of its own node only",
        );
        // Whoever holds this one binds Instances.
        refused(
            leases.create(&PostParams::default(), &named("virga-controller")).await,
            "the Lease of its own node only",
        );

        // Its Instances: the status, and the finalizer.
        t.create(bound_to(&own.node, "mine")).await;
        t.create(bound_to(&other.node, "theirs")).await;
        t.create(instance("nobody-s", "m1.small")).await;
        let instances: Api<Instance> = Api::namespaced(own.client.clone(), &t.namespace);
        apply_status(&instances, "mine", json!({"state": "Active"}))
            .await
            .unwrap();
        let finalizers = Patch::Merge(json!({"metadata": {"finalizers": ["virga.dev/agent"]}}));
        instances
            .patch("mine", &PatchParams::default(), &finalizers)
            .await
            .unwrap();
        for name in ["theirs", "nobody-s"] {
            refused(
                apply_status(&instances, name, json!({"state": "Active"})).await,
                "of its own node only",
            );
            refused(
                instances.patch(name, &PatchParams::default(), &finalizers).await,
                "of its own node only",
            );
        }

        // Its Volumes.
        let on = |node: &str| VolumeSpec {
            node_name: Some(node.to_owned()),
            ..volume("v", virga_crds::Bytes::mib(8)).spec
        };
        t.create(Volume::new("mine", on(&own.node))).await;
        t.create(Volume::new("theirs", on(&other.node))).await;
        let volumes: Api<Volume> = Api::namespaced(own.client.clone(), &t.namespace);
        apply_status(&volumes, "mine", json!({"state": "Available"}))
            .await
            .unwrap();
        refused(
            apply_status(&volumes, "theirs", json!({"state": "Available"})).await,
            "of its own node only",
        );
        for lease in [&own.node, &other.node] {
            let all: Api<Lease> = Api::namespaced(t.client.clone(), SYSTEM);
            let _ = all.delete(&format!("virga-{lease}"), &DeleteParams::default()).await;
        }
    })
    .await;
}

#[tokio::test]
async fn each_host_of_a_migration_says_its_own_part_and_nobody_else_any() {
    let cluster = with_the_chart_s_rules();
    with_temp_namespace(cluster, async |t| {
        let (source, target, third) = (Agent::of(&t, 1).await, Agent::of(&t, 2).await, Agent::of(&t, 3).await);
        policies_are_in_force(&source).await;
        let spec = MigrationSpec {
            instance: "web".into(),
            kind: MigrationType::Cold,
            target: None,
        };
        t.create(Migration::new("move", spec)).await;
        let migrations = |agent: &Agent| Api::<Migration>::namespaced(agent.client.clone(), &t.namespace);
        let outgoing = json!({"outgoing": {"state": "Revoked"}});
        refused(
            apply_status(&migrations(&source), "move", outgoing.clone()).await,
            "the Migrations that leave its own node or come to it only",
        );
        let told = json!({"phase": "Preparing", "instanceUID": "u", "source": source.node, "target": target.node});
        let change = Patch::Merge(json!({"status": told}));
        Api::<Migration>::namespaced(t.client.clone(), &t.namespace)
            .patch_status("move", &PatchParams::default(), &change)
            .await
            .unwrap();
        refused(
            apply_status(&migrations(&third), "move", outgoing.clone()).await,
            "the Migrations that leave its own node or come to it only",
        );
        refused(
            apply_status(&migrations(&target), "move", outgoing.clone()).await,
            "the source's agent's to say",
        );
        let says = |part: serde_json::Value| {
            Patch::Apply(json!({
                "apiVersion": "virga.dev/v1alpha1", "kind": "Migration",
                "metadata": {"name": "move"}, "status": part,
            }))
        };
        let params = |manager: &str| PatchParams::apply(manager).force();
        migrations(&source)
            .patch_status("move", &params(managers::AGENT_OUTGOING), &says(outgoing))
            .await
            .unwrap();
        let incoming = json!({"incoming": {"state": "Receiving"}});
        refused(
            apply_status(&migrations(&source), "move", incoming.clone()).await,
            "the target's agent's to say",
        );
        refused(
            apply_status(&migrations(&target), "move", json!({"phase": "Completed"})).await,
            "an agent never says where a Migration goes or how it stands",
        );
        migrations(&target)
            .patch_status("move", &params(managers::AGENT), &says(incoming))
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_agent_writes_no_spec_and_moves_nothing_to_itself() {
    let cluster = with_the_chart_s_rules();
    with_temp_namespace(cluster, async |t| {
        let own = Agent::of(&t, 1).await;
        policies_are_in_force(&own).await;
        t.create(bound_to(&own.node, "mine")).await;
        t.create(instance("nobody-s", "m1.small")).await;
        let instances: Api<Instance> = Api::namespaced(own.client.clone(), &t.namespace);
        let change = |spec: serde_json::Value| Patch::Merge(json!({"spec": spec}));
        refused(
            instances
                .patch(
                    "mine",
                    &PatchParams::default(),
                    &change(json!({"powerState": "Stopped"})),
                )
                .await,
            "an agent never writes a spec",
        );
        refused(
            instances
                .patch(
                    "nobody-s",
                    &PatchParams::default(),
                    &change(json!({"nodeName": own.node})),
                )
                .await,
            "of its own node only",
        );
        let hypervisors: Api<Hypervisor> = Api::all(own.client.clone());
        hypervisors
            .create(&PostParams::default(), &own.hypervisor())
            .await
            .unwrap();
        let cordon = hypervisors
            .patch(
                &own.node,
                &PatchParams::default(),
                &change(json!({"scheduling": "Cordoned"})),
            )
            .await;
        assert!(cordon.is_err(), "{cordon:?}");
    })
    .await;
}

#[tokio::test]
async fn an_agent_reads_no_secret_and_makes_no_instance() {
    let cluster = with_the_chart_s_rules();
    with_temp_namespace(cluster, async |t| {
        let own = Agent::of(&t, 1).await;
        let secrets: Api<Secret> = Api::namespaced(own.client.clone(), &t.namespace);
        refused(secrets.get("user-data").await, "secrets");
        let secrets: Api<Secret> = Api::namespaced(own.client.clone(), SYSTEM);
        refused(secrets.get("virga-webhook-ca").await, "secrets");
        let maps: Api<ConfigMap> = Api::namespaced(own.client.clone(), SYSTEM);
        refused(maps.get("another").await, "configmaps");
        let instances: Api<Instance> = Api::namespaced(own.client.clone(), &t.namespace);
        refused(
            instances
                .create(&PostParams::default(), &bound_to(&own.node, "mine"))
                .await,
            "cannot create",
        );
        refused(
            instances.delete("mine", &DeleteParams::default()).await,
            "cannot delete",
        );
    })
    .await;
}

#[tokio::test]
async fn a_token_that_names_no_node_writes_nothing() {
    let cluster = with_the_chart_s_rules();
    with_temp_namespace(cluster, async |t| {
        let own = Agent::of(&t, 1).await;
        policies_are_in_force(&own).await;
        let stolen = token(&t, "virga-agent", None).await;
        let hypervisors: Api<Hypervisor> = Api::all(stolen);
        refused(
            hypervisors.create(&PostParams::default(), &own.hypervisor()).await,
            "does not say which node",
        );
    })
    .await;
}
