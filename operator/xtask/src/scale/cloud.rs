//! An API server with Virga's objects in it, and replicas of the controller that it calls.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde::Deserialize as _;
use serde_json::{Value, json};
use virga_crds::{Instance, SYSTEM_NAMESPACE};
use virga_lab::{Administered as _, ControlPlane};

use super::controller::WEBHOOK_PORT;
use super::{Error, fill};
use crate::file;

/// Every replica answers for the first, the leader for the second.
const SERVICES: [&str; 2] = ["virga-webhook", "virga-webhook-leader"];
/// Both webhook configurations have it.
const WEBHOOKS: &str = "virga";
const SCHEDULING: &str = "schedule.virga.dev";
/// What the chart would run, and what is for that only.
const NOT_HERE: [&str; 3] = ["Deployment", "DaemonSet", "ConfigMap"];
/// How long the API server may take to follow a change of its webhooks.
const LIMIT: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How many connections there are at most: one alone is slower than the API server.
const CONNECTIONS: usize = 32;

/// It ends with the value.
pub struct Cloud {
    cluster: ControlPlane,
    /// The chart's webhook configurations.
    webhooks: String,
    /// The administrator, over connections of their own.
    pub clients: Vec<Client>,
    /// For replicas: it names their service account.
    pub kubeconfig: PathBuf,
    _folder: tempfile::TempDir,
}

impl Cloud {
    /// Everything of the chart but its processes and webhooks.
    pub async fn up() -> Result<Self, Error> {
        let cluster = ControlPlane::up()?;
        cluster.kubectl(&["create", "namespace", SYSTEM_NAMESPACE])?;
        cluster.kubectl(&["create", "namespace", fill::NAMESPACE])?;
        let chart = file::checkout().join("charts/virga");
        let namespace = format!("--namespace={SYSTEM_NAMESPACE}");
        let text = cluster.helm(&["template", "virga", &chart.to_string_lossy(), &namespace])?;
        let (mut webhooks, mut others) = (Vec::new(), Vec::new());
        for mut object in objects(&text)? {
            match object["kind"].as_str() {
                Some(kind) if kind.ends_with("WebhookConfiguration") => webhooks.push(object),
                Some(kind) if !NOT_HERE.contains(&kind) => {
                    if kind == "Service" {
                        // Its endpoints are written here.
                        object["spec"]["selector"].take();
                    }
                    others.push(object);
                }
                _ => {}
            }
        }
        apply(&cluster, &list(&others))?;
        let every = ["--for=condition=Established", "customresourcedefinitions", "--all"];
        cluster.kubectl(&[&["wait", "--timeout=30s"][..], &every].concat())?;

        let folder = tempfile::tempdir().map_err(file::failed("making", "a folder for a kubeconfig"))?;
        let kubeconfig = folder.path().join("kubeconfig");
        write_kubeconfig(&cluster, "virga-controller", &[], &kubeconfig)?;
        Ok(Self {
            clients: clients(&cluster).await?,
            webhooks: list(&webhooks),
            cluster,
            kubeconfig,
            _folder: folder,
        })
    }

    /// Any of the clients.
    pub fn client(&self) -> &Client {
        &self.clients[0]
    }

    /// Writes the kubeconfig of the agent on a Node, which is made: it can act there, and nowhere else.
    pub fn agent_kubeconfig(&self, node: &str, path: &Path) -> Result<(), Error> {
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
        apply(&self.cluster, &object.to_string())?;
        let bound = ["--bound-object-kind=Node", &format!("--bound-object-name={node}")];
        write_kubeconfig(&self.cluster, "virga-agent", &bound, path)
    }

    /// Has the API server call webhooks, all of the chart.
    pub fn install_webhooks(&self) -> Result<(), Error> {
        apply(&self.cluster, &self.webhooks)
    }

    /// Has it call none.
    pub async fn remove_webhooks(&self) -> Result<(), Error> {
        let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations";
        self.cluster
            .kubectl(&["delete", kinds, WEBHOOKS, "--ignore-not-found"])?;
        self.until_placed_at_create(false).await
    }

    /// Has it call all but the one that schedules.
    pub async fn remove_scheduling(&self) -> Result<(), Error> {
        let api = Api::<MutatingWebhookConfiguration>::all(self.client().clone());
        let patch = json!({"webhooks": [{"name": SCHEDULING, "$patch": "delete"}]});
        let patched = api
            .patch(WEBHOOKS, &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        patched.map(drop).map_err(Error::api("removing a webhook"))?;
        self.until_placed_at_create(false).await
    }

    /// Which replicas answer, and which of them leads, as kubelets and the leader's label would have it.
    pub async fn direct(&self, replicas: &[Ipv4Addr], leader: Option<Ipv4Addr>) -> Result<(), Error> {
        let leader: Vec<Ipv4Addr> = leader.into_iter().collect();
        for (service, addresses) in SERVICES.into_iter().zip([replicas, &leader]) {
            let api = Api::<EndpointSlice>::namespaced(self.client().clone(), SYSTEM_NAMESPACE);
            let params = PatchParams::apply("virga-xtask").force();
            let written = api
                .patch(service, &params, &Patch::Apply(slice(service, addresses)))
                .await;
            written
                .map(drop)
                .map_err(Error::api(format!("writing the endpoints of {service}")))?;
        }
        Ok(())
    }

    /// Waits until an Instance is, or is not, placed while it is created; by dry runs.
    pub async fn until_placed_at_create(&self, placed: bool) -> Result<(), Error> {
        let api = Api::<Instance>::namespaced(self.client().clone(), fill::NAMESPACE);
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let began = Instant::now();
        let mut last = String::new();
        while began.elapsed() < LIMIT {
            match api.create(&dry_run, &fill::instance("probe", fill::SMALL)).await {
                Ok(instance) if instance.spec.node_name.is_some() == placed => return Ok(()),
                // Not called yet, or not trusted yet.
                Ok(instance) => last = format!("node {:?}", instance.spec.node_name),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Err(Error::Webhooks {
            limit_s: LIMIT.as_secs(),
            last,
        })
    }

    /// Deletes the Instances whose names begin so; nothing holds them.
    pub async fn delete_instances(&self, label: &str) -> Result<(), Error> {
        let api = Api::<Instance>::namespaced(self.client().clone(), fill::NAMESPACE);
        let chosen = kube::api::ListParams::default().labels(label);
        let deleted = api.delete_collection(&DeleteParams::default(), &chosen).await;
        deleted.map(drop).map_err(Error::api("deleting Instances"))
    }
}

/// A kubeconfig with the token of one of Virga's accounts.
fn write_kubeconfig(cluster: &ControlPlane, account: &str, more: &[&str], path: &Path) -> Result<(), Error> {
    let namespace = format!("--namespace={SYSTEM_NAMESPACE}");
    let token = ["create", "token", account, "--duration=8h", &namespace];
    let token = cluster.kubectl(&[&token[..], more].concat())?;
    let mut known = Kubeconfig::read_from(cluster.kubeconfig())?;
    for user in &mut known.auth_infos {
        user.auth_info = Some(AuthInfo {
            token: Some(token.trim().to_owned().into()),
            ..AuthInfo::default()
        });
    }
    let text = serde_yaml::to_string(&known).map_err(|error| Error::Unreadable(error.to_string()))?;
    Ok(file::write(path, text)?)
}

fn objects(text: &str) -> Result<Vec<Value>, Error> {
    let documents = serde_yaml::Deserializer::from_str(text).map(Value::deserialize);
    let documents: Result<Vec<Value>, _> = documents.collect();
    documents.map_err(|error| Error::Unreadable(error.to_string()))
}

fn list(objects: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

fn apply(cluster: &ControlPlane, objects: &str) -> Result<(), Error> {
    cluster.kubectl_with_input(
        &["apply", "--server-side", "--force-conflicts", "--filename=-"],
        objects,
    )?;
    Ok(())
}

fn slice(service: &str, addresses: &[Ipv4Addr]) -> EndpointSlice {
    let endpoint = |address: &Ipv4Addr| Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            ..EndpointConditions::default()
        }),
        ..Endpoint::default()
    };
    let labels = [
        ("kubernetes.io/service-name", service),
        ("endpointslice.kubernetes.io/managed-by", "virga-xtask"),
    ];
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(service.to_owned()),
            labels: Some(BTreeMap::from(
                labels.map(|(key, value)| (key.to_owned(), value.to_owned())),
            )),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints: addresses.iter().map(endpoint).collect(),
        ports: Some(vec![EndpointPort {
            name: Some("https".to_owned()),
            port: Some(WEBHOOK_PORT.into()),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    }
}

/// A connection each.
async fn clients(cluster: &ControlPlane) -> Result<Vec<Client>, Error> {
    // Whoever is first wins, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let config = kube::Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await?;
        clients.push(Client::try_from(config).map_err(Error::api("connecting to the apiserver"))?);
    }
    Ok(clients)
}
