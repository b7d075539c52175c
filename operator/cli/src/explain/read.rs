//! What may the user see of the cluster? As much as there is; the rest is named.

use std::{fmt::Debug, time::Duration};

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, api::core::v1::Namespace};
use kube::{Api, Client, Resource, ResourceExt, api::ListParams, core::DeserializeGuard};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use virga_crds::Instance;

use crate::objects::Objects;

/// How long one answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How many objects are asked for at once.
const PAGE: u32 = 500;
/// The most pages of one kind.
const MOST_PAGES: usize = 2000;

/// Why the cluster could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server said no.
    #[error("reading {what}: {message}")]
    Refused {
        /// What was being read.
        what: String,
        /// The status code.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// It could not be reached, or said something else.
    #[error("reading {what}")]
    Call {
        /// What was being read.
        what: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// It did not answer.
    #[error("reading {what}: no answer within {} s", CALL_TIMEOUT.as_secs())]
    TimedOut {
        /// What was being read.
        what: String,
    },
}

/// What could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// Which objects.
    pub what: String,
    /// Why.
    pub why: String,
    /// What that means for the answer.
    pub so: &'static str,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Read {
    /// All that placement depends on, the Instance too.
    pub(super) objects: Objects,
    /// What of it is missing.
    pub(super) unread: Vec<Unread>,
    /// Whether the Instances and Volumes of all namespaces are there.
    pub(super) is_all: bool,
}

impl Error {
    /// Why, when it is nothing that is wrong: users may not read everything, and clusters don't have everything.
    pub(super) fn expected(&self) -> Option<&'static str> {
        match self {
            Self::Refused { code: 403, .. } => Some("you may not read it"),
            Self::Refused { code: 404, .. } => Some("the cluster does not have it"),
            _ => None,
        }
    }
}

/// Reads an Instance.
pub(super) async fn instance(client: &Client, namespace: &str, name: &str) -> Result<Instance, Error> {
    let instances = Api::<Instance>::namespaced(client.clone(), namespace);
    call(&format!("Instance {namespace}/{name}"), instances.get(name)).await
}

/// Reads what an Instance's placement depends on.
pub(super) async fn around(client: &Client, instance: &Instance) -> Result<Read, Error> {
    let namespace = &instance.namespace().unwrap_or_default();
    let mut reader = Reader {
        client,
        namespace,
        unread: Vec::new(),
    };
    let hypervisors = reader.of_cluster("no host can be asked").await?;
    let mut objects = Objects {
        host_aggregates: if hypervisors.is_empty() {
            Vec::new()
        } else {
            reader
                .of_cluster("zones and limits that they set are not known")
                .await?
        },
        hypervisors,
        flavors: reader.of_cluster("how much the Instance needs is not known").await?,
        ..Objects::default()
    };
    let elsewhere = "those that were not read look as if they were not there";
    objects.server_groups = reader.of_namespace(elsewhere).await?;
    objects.images = reader.of_all_namespaces(elsewhere).await?.0;
    let as_they_say = "hosts are taken to be as full as their own status says";
    let (volumes, all_volumes) = reader.of_all_namespaces(as_they_say).await?;
    let (instances, all_instances) = reader.of_all_namespaces(as_they_say).await?;
    objects.volumes = volumes;
    objects.instances = instances;
    if let Some(owner) = reader.own_namespace().await? {
        objects.namespaces.push(owner);
    }
    if !objects.instances.iter().any(|known| known.uid() == instance.uid()) {
        objects.instances.push(instance.clone());
    }
    Ok(Read {
        objects,
        unread: reader.unread,
        is_all: all_volumes && all_instances,
    })
}

struct Reader<'a> {
    client: &'a Client,
    namespace: &'a str,
    unread: Vec<Unread>,
}

impl Reader<'_> {
    async fn of_cluster<K>(&mut self, so: &'static str) -> Result<Vec<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let what = K::plural(&()).into_owned();
        let listed = list(&what, Api::all_with(self.client.clone(), &())).await;
        self.allowed(what, so, listed)
    }

    async fn of_namespace<K>(&mut self, so: &'static str) -> Result<Vec<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let what = format!("{} of namespace {}", K::plural(&()), self.namespace);
        let api = Api::<DeserializeGuard<K>>::all_with(self.client.clone(), &()).constrain(self.namespace);
        let listed = list(&what, api).await;
        self.allowed(what, so, listed)
    }

    /// Of all namespaces, else of the Instance's; and whether it was all.
    async fn of_all_namespaces<K>(&mut self, so: &'static str) -> Result<(Vec<K>, bool), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let before = self.unread.len();
        let what = format!("{} of other namespaces", K::plural(&()));
        let listed = list(&what, Api::all_with(self.client.clone(), &())).await;
        let found = self.allowed(what, so, listed)?;
        if self.unread.len() == before {
            return Ok((found, true));
        }
        Ok((self.of_namespace(so).await?, false))
    }

    /// The Namespace, which says whose Project it is.
    async fn own_namespace(&mut self) -> Result<Option<Namespace>, Error> {
        let what = format!("Namespace {}", self.namespace);
        let found = call(&what, Api::<Namespace>::all(self.client.clone()).get(self.namespace)).await;
        let so = "it is taken for a Project of its own";
        Ok(self.allowed(what, so, found.map(|found| vec![found]))?.pop())
    }

    /// What may not be read is noted; other failures are failures.
    fn allowed<T>(&mut self, what: String, so: &'static str, listed: Result<Vec<T>, Error>) -> Result<Vec<T>, Error> {
        let error = match listed {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let Some(why) = error.expected() else {
            return Err(error);
        };
        let why = if what.starts_with("Namespace ") {
            why.to_owned()
        } else {
            why.replace(" it", " them")
        };
        self.unread.push(Unread { what, why, so });
        Ok(Vec::new())
    }
}

/// All objects of a list. One that this version can't read is left out, as the controller does.
async fn list<K>(what: &str, api: Api<DeserializeGuard<K>>) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut found = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    for _ in 0..MOST_PAGES {
        let list = call(what, api.list(&page)).await?;
        found.extend(list.items.into_iter().filter_map(|item| item.0.ok()));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    Ok(found)
}

pub(super) async fn call<T>(what: &str, answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match timeout(CALL_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(Error::Refused {
            what: what.to_owned(),
            code: status.code,
            message: status.message.clone(),
        }),
        Ok(Err(source)) => Err(Error::Call {
            what: what.to_owned(),
            source: Box::new(source),
        }),
        Err(_) => Err(Error::TimedOut { what: what.to_owned() }),
    }
}
