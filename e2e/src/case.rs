//! One test's place in the cluster.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use virga_crds::{Flavor, FlavorSpec};

use crate::{BOUND, Cluster, Said, report};

/// Marks what a test made outside its namespace.
const LABEL: &str = "virga-e2e/case";

/// A test's namespace, and the cluster as its administrator sees it.
#[derive(Clone)]
pub struct Case {
    /// The cluster.
    pub cluster: Cluster,
    /// The administrator's client.
    pub client: Client,
    /// The test's own namespace.
    pub namespace: String,
}

/// Runs a test in a namespace of its own, which is deleted afterwards with all in it, also when the test fails.
pub async fn with_temp_namespace(cluster: &Cluster, test: impl AsyncFnOnce(Case)) {
    let client = cluster.client().await;
    let case = Case {
        cluster: cluster.clone(),
        namespace: format!("e2e-{:08x}", unique()),
        client,
    };
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(case.namespace.clone());
    let namespaces: Api<Namespace> = Api::all(case.client.clone());
    make(&namespaces, &namespace).await;
    let outcome = AssertUnwindSafe(test(case.clone())).catch_unwind().await;
    case.clean_up().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// Different for each call in each process of a machine.
fn unique() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let hash = RandomState::new().build_hasher().finish();
    u32::try_from(hash >> 32).unwrap_or_default()
}

async fn make<K>(api: &Api<K>, object: &K) -> K
where
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    let made = api.create(&PostParams::default(), object).await;
    made.unwrap_or_else(|error| panic!("creating {object:?}: {error}"))
}

impl Case {
    /// The objects of a kind in the test's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Makes an object in the test's namespace.
    pub async fn create<K>(&self, object: K) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        make(&self.api::<K>(), &object).await
    }

    /// Why an object can't be made. Panics if it can.
    pub async fn refusal<K>(&self, object: K) -> String
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        match self.api::<K>().create(&PostParams::default(), &object).await {
            Ok(made) => panic!("made, but must be refused: {made:?}"),
            Err(kube::Error::Api(status)) => status.message.clone(),
            Err(error) => panic!("not refused, but: {error}"),
        }
    }

    /// What `kubectl create --dry-run=server` says of an object in the test's namespace: the object that it would be,
    /// errors and warnings.
    pub fn dry_run(&self, object: &impl Serialize) -> Said {
        let yaml = serde_yaml::to_string(object).unwrap_or_else(|error| panic!("an object as YAML: {error}"));
        let namespace = format!("--namespace={}", self.namespace);
        let args = [
            "create",
            "--dry-run=server",
            "--filename=-",
            "--output=yaml",
            &namespace,
        ];
        self.cluster.kubectl_says_of(&args, &yaml)
    }

    /// Makes a Flavor with a name of this test's own, which is returned.
    pub async fn flavor(&self, name: &str, spec: FlavorSpec) -> String {
        let name = format!("{}.{name}", self.namespace);
        let mut flavor = Flavor::new(&name, spec);
        flavor.labels_mut().insert(LABEL.into(), self.namespace.clone());
        make(&Api::all(self.client.clone()), &flavor).await;
        name
    }

    /// Makes an object of a cluster-wide kind, to be deleted after the test.
    pub async fn create_cluster_wide<K>(&self, mut object: K) -> K
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        object.labels_mut().insert(LABEL.into(), self.namespace.clone());
        make(&Api::all(self.client.clone()), &object).await
    }

    /// Waits until the object is as said, within [`BOUND`].
    pub async fn await_condition<K>(&self, name: &str, what: &str, is_so: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        self.await_within(BOUND, name, what, is_so).await
    }

    /// [`Case::await_condition`] with a bound of one's own.
    pub async fn await_within<K>(&self, bound: Duration, name: &str, what: &str, is_so: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let api = self.api::<K>();
        self.watch(&api, bound, name, what, |object| {
            object.filter(|object| is_so(object)).cloned()
        })
        .await
    }

    /// Waits until a cluster-wide object is as said.
    pub async fn await_cluster_wide<K>(&self, bound: Duration, name: &str, what: &str, is_so: impl Fn(&K) -> bool) -> K
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let api: Api<K> = Api::all(self.client.clone());
        self.watch(&api, bound, name, what, |object| {
            object.filter(|object| is_so(object)).cloned()
        })
        .await
    }

    /// Waits until the object is gone.
    pub async fn await_gone<K>(&self, bound: Duration, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let api = self.api::<K>();
        self.watch(&api, bound, name, "gone", |object| object.is_none().then_some(()))
            .await;
    }

    /// Deletes the object and waits until it is gone.
    pub async fn delete<K>(&self, bound: Duration, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let deleted = self.api::<K>().delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("deleting {} {name}: {error}", K::kind(&())));
        self.await_gone::<K>(bound, name).await;
    }

    /// Merges this into the object.
    pub async fn patch<K>(&self, name: &str, change: serde_json::Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let patched = self
            .api::<K>()
            .patch(name, &PatchParams::default(), &Patch::Merge(&change))
            .await;
        patched.unwrap_or_else(|error| panic!("patching {} {name} by {change}: {error}", K::kind(&())))
    }

    async fn watch<K, T>(
        &self,
        api: &Api<K>,
        bound: Duration,
        name: &str,
        what: &str,
        found: impl Fn(Option<&K>) -> Option<T>,
    ) -> T
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let look = async {
            loop {
                // The apiserver may be away for a while: tests kill it.
                if let Ok(object) = api.get_opt(name).await
                    && let Some(found) = found(object.as_ref())
                {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let Ok(found) = tokio::time::timeout(bound, look).await else {
            let kind = format!("{}.{}", K::plural(&()), K::group(&()));
            panic!(
                "{} {name} after {} s: not so: {what}\n{}",
                K::kind(&()),
                bound.as_secs(),
                report::of(&self.cluster, kind.trim_end_matches('.'), &self.namespace, name)
            );
        };
        found
    }

    async fn clean_up(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        // The test's own failure matters more than one of these.
        let _ = namespaces.delete(&self.namespace, &DeleteParams::default()).await;
        let mine = ListParams::default().labels(&format!("{LABEL}={}", self.namespace));
        let flavors: Api<Flavor> = Api::all(self.client.clone());
        let _ = flavors.delete_collection(&DeleteParams::default(), &mine).await;
        let hypervisors: Api<virga_crds::Hypervisor> = Api::all(self.client.clone());
        let _ = hypervisors.delete_collection(&DeleteParams::default(), &mine).await;
    }
}
