//! What may the user see of a cluster? As much as there is; the rest is named.

use std::{fmt::Debug, time::Duration};

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::{
    Api, Client, Config, Resource,
    api::ListParams,
    config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
    core::DeserializeGuard,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::flags::ClusterArgs;

/// How long one answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How many objects are asked for at once.
const PAGE: u32 = 500;
/// The most pages of one kind.
const MOST_PAGES: usize = 2000;

/// Why the cluster could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig can't be used.
    #[error("reading the kubeconfig")]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// There is no cluster to ask.
    #[error("finding the cluster")]
    Infer(#[source] Box<InferConfigError>),
    /// The client can't be made.
    #[error("connecting to the cluster")]
    Client(#[source] Box<kube::Error>),
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

impl Error {
    /// Why, when it is nothing that is wrong: users may not read everything, and clusters don't have everything.
    pub(crate) fn expected(&self) -> Option<&'static str> {
        match self {
            Self::Refused { code: 403, .. } => Some("you may not read it"),
            Self::Refused { code: 404, .. } => Some("the cluster does not have it"),
            _ => None,
        }
    }
}

/// A client of the cluster that kubectl would ask.
pub(crate) async fn connect(args: ClusterArgs) -> Result<Client, Error> {
    let options = KubeConfigOptions {
        context: args.context,
        ..KubeConfigOptions::default()
    };
    let wrong = |error| Error::Kubeconfig(Box::new(error));
    let config = match args.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(wrong)?
        }
        None if options.context.is_some() => Config::from_kubeconfig(&options).await.map_err(wrong)?,
        None => Config::infer().await.map_err(|error| Error::Infer(Box::new(error)))?,
    };
    Client::try_from(config).map_err(|error| Error::Client(Box::new(error)))
}

/// Reads, and notes what it may not read.
pub(crate) struct Reader<'a> {
    pub(crate) client: &'a Client,
    pub(crate) namespace: &'a str,
    pub(crate) unread: Vec<Unread>,
}

impl Reader<'_> {
    /// Of the cluster.
    pub(crate) async fn of_cluster<K>(&mut self, so: &'static str) -> Result<Vec<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let what = K::plural(&()).into_owned();
        let listed = list(&what, Api::all_with(self.client.clone(), &())).await;
        self.allowed(what, so, listed)
    }

    /// Of the namespace.
    pub(crate) async fn of_namespace<K>(&mut self, so: &'static str) -> Result<Vec<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let what = format!("{} of namespace {}", K::plural(&()), self.namespace);
        let api = Api::<DeserializeGuard<K>>::all_with(self.client.clone(), &()).constrain(self.namespace);
        let listed = list(&what, api).await;
        self.allowed(what, so, listed)
    }

    /// Of all namespaces, else of the Instance's; and whether it was all.
    pub(crate) async fn of_all_namespaces<K>(&mut self, so: &'static str) -> Result<(Vec<K>, bool), Error>
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

    /// What may not be read is noted; other failures are failures.
    pub(crate) fn allowed<T>(
        &mut self,
        what: String,
        so: &'static str,
        listed: Result<Vec<T>, Error>,
    ) -> Result<Vec<T>, Error> {
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

/// An answer, in time.
pub(crate) async fn call<T>(what: &str, answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
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
