//! The chart's objects on the real apiserver: all are valid, and an agent can do no more than it must.

// In tests a panic is the report.
#![allow(clippy::unwrap_used)]

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Error};
use serde_json::json;
use virga_crds::{Hypervisor, HypervisorSpec, Instance, InstanceSpec, Volume, VolumeSpec, managers};
use virga_e2e::objects::{instance, volume};
use virga_e2e::{Case, Cluster, checkout, eventually, with_temp_namespace};

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

#[tokio::test]
async fn every_object_of_the_chart_is_valid() {
    let cluster = with_the_chart_s_rules();
    let objects = rendered(cluster, &[]);
    let said = cluster.kubectl_says_of(
        &["apply", "--dry-run=server", "--validate=strict", "--filename=-"],
        &objects,
    );
    let warnings = said.stderr.clone();
    let applied = said.must(&["apply", "--dry-run=server"]);
    assert!(applied.lines().count() > 20, "{applied}");
    assert!(!warnings.contains("Warning: unknown field"), "{warnings}");
    // These are what a cluster under the restricted Pod Security Standard would say of the controller.
    assert!(!warnings.contains("deprecated"), "{warnings}");
}

#[test]
fn wrong_values_are_refused_by_their_schema() {
    let cluster = Cluster::api_only();
    for (value, words) in [
        ("agent.domainType=xen", "domainType"),
        ("controller.replicas=0", "replicas"),
        ("controller.replicas=two", "replicas"),
        ("agent.dataDir=relative/path", "dataDir"),
        ("agent.imageCacheSize=big", "imageCacheSize"),
        ("controller.reservedMemory=-1Gi", "reservedMemory"),
        ("imagePullPolicy=Sometimes", "imagePullPolicy"),
        ("controler.replicas=2", "controler"),
        ("agent.image=", "image"),
    ] {
        let chart = chart();
        let error = cluster
            .helm_says(&["template", "virga", &chart, "--set", value])
            .must_fail();
        assert!(error.contains(words), "{value}: {error}");
    }
}

#[test]
fn the_flags_that_the_chart_gives_follow_its_values() {
    let cluster = Cluster::api_only();
    let chart = chart();
    let set = [
        "agent.domainType=qemu",
        "agent.dataDir=/srv/virga",
        "controller.replicas=3",
        "agent.image=example.org/agent:7",
    ];
    let mut args = vec!["template", "virga", &chart, "--namespace=elsewhere"];
    args.extend(set.iter().flat_map(|value| ["--set", value]));
    let objects = cluster.helm(&args);
    for words in [
        "--domain-type=qemu",
        "--data-dir=/srv/virga",
        "replicas: 3",
        "example.org/agent:7",
    ] {
        assert!(objects.contains(words), "{words} is not in\n{objects}");
    }
    // The policy names the agent by its namespace.
    assert!(objects.contains("system:serviceaccount:elsewhere:virga-agent"));
    assert!(!objects.contains(SYSTEM), "a namespace is written out");
}

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

#[tokio::test]
async fn a_member_of_a_project_does_what_members_do_and_a_reader_reads() {
    let cluster = with_the_chart_s_rules();
    with_temp_namespace(cluster, async |t| {
        for (role, user) in [("virga-member", "ann"), ("virga-reader", "bob")] {
            t.cluster.kubectl(&[
                "create",
                "rolebinding",
                user,
                &format!("--clusterrole={role}"),
                &format!("--user={user}"),
                "--namespace",
                &t.namespace,
            ]);
        }
        let may = async |user: &str, verb: &str, what: &str| {
            let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
            let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
            let review: SubjectAccessReview = serde_json::from_value(json!({
                "metadata": {},
                "spec": {
                    "user": user, "groups": ["system:authenticated"],
                    "resourceAttributes": {
                        "namespace": t.namespace, "verb": verb,
                        "group": group, "resource": resource, "subresource": subresource,
                    },
                },
            }))
            .unwrap();
            let reviews: Api<SubjectAccessReview> = Api::all(t.client.clone());
            let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
            answer.status.unwrap().allowed
        };
        for (verb, what, member, reader) in [
            ("create", "instances.virga.dev", true, false),
            ("delete", "volumes.virga.dev", true, false),
            ("get", "networks.virga.dev", true, true),
            ("watch", "instances.virga.dev", true, true),
            ("get", "flavors.virga.dev", true, true),
            ("create", "flavors.virga.dev", false, false),
            ("create", "secrets", true, false),
            ("get", "secrets", true, false),
            ("create", "ports.virga.dev", false, false),
            ("update", "instances.virga.dev/status", false, false),
            ("update", "hypervisors.virga.dev", false, false),
            ("create", "projects.virga.dev", false, false),
        ] {
            assert_eq!(may("ann", verb, what).await, member, "member: {verb} {what}");
            assert_eq!(may("bob", verb, what).await, reader, "reader: {verb} {what}");
        }
    })
    .await;
}
