//! Projects: the namespace that each owns, and the role bindings of its members in it.

mod inside;

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use k8s_openapi::api::{core::v1::Namespace, rbac::v1::RoleBinding};
use kube::{
    Api, ResourceExt as _,
    runtime::{Controller, reflector::ObjectRef},
};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use virga_core::{
    project::{self, Seen, Step},
    security_group::DEFAULT,
};
use virga_crds::{Project, finalizers, labels};
use virga_runtime::{
    apply,
    class::{Class, Classify, is_gone},
    reconcile::{self, Done, Reconcile, Settings},
};

use crate::{Context, security_group, stores::Watches};

/// How soon to look again into a namespace that must become empty.
const AGAIN: Duration = Duration::from_secs(2);
/// How soon to ask again for a namespace that is somebody else's: no watch tells of it.
const CONFLICT: Duration = Duration::from_secs(15);
/// How long the API may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Why a project could not be brought nearer to its spec.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A write failed.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// A namespace that may belong to somebody else could not be read.
    #[error("reading namespace {name}")]
    Read {
        /// The namespace.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// It was not answered in time.
    #[error("reading namespace {0}: no answer in time")]
    TimedOut(String),
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::Apply(error) => error.class(),
            Self::Read { source, .. } => source.class(),
            Self::TimedOut(_) => Class::Transient,
        }
    }
}

struct Projects {
    context: Arc<Context>,
}

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    fn project_of<K: kube::Resource>(object: &Arc<K>) -> Option<ObjectRef<Project>> {
        object
            .meta()
            .labels
            .as_ref()?
            .get(labels::PROJECT)
            .map(|name| ObjectRef::new(name))
    }
    let controller = Controller::for_shared_stream(watches.projects.applied(), watches.projects.store())
        .watches_shared_stream(watches.namespaces.touched(), |namespace: Arc<Namespace>| {
            project_of(&namespace)
        })
        .watches_shared_stream(watches.role_bindings.touched(), |binding: Arc<RoleBinding>| {
            project_of(&binding)
        });
    let metrics = context.metrics.clone();
    reconcile::run(Projects { context }, controller, Settings::default(), metrics, stop)
}

impl Reconcile for Projects {
    type Kind = Project;
    type Error = Error;

    fn name(&self) -> &'static str {
        "project"
    }

    async fn reconcile(&self, project: Arc<Project>) -> Result<Done, Error> {
        let namespace = project.spec.namespace.clone().unwrap_or_else(|| project.name_any());
        let seen = self.fetch(&project, &namespace).await?;
        let (steps, status) = project::plan(&project, &seen, self.context.clock.now());
        let mut changed = false;
        let mut gone = false;
        for step in steps {
            gone |= step == Step::RemoveFinalizer;
            changed |= self.apply(&project, &namespace, &seen, step).await?;
        }
        if !gone {
            changed |= self
                .context
                .writer
                .apply_status(project.as_ref(), &status)
                .await?
                .is_some();
        }
        let done = Done::changed_if(changed);
        Ok(if project.metadata.deletion_timestamp.is_some() {
            done.again_in(AGAIN)
        } else if status.namespace.is_none() {
            done.again_in(CONFLICT)
        } else {
            done
        })
    }
}

impl Projects {
    async fn fetch(&self, project: &Project, namespace: &str) -> Result<Seen, Error> {
        let stores = &self.context.stores;
        let ours = stores.namespaces.get(&ObjectRef::new(namespace));
        // Only namespaces of projects are watched; one without our label is asked for.
        let live = match ours {
            Some(live) => Some(live.as_ref().clone()),
            None => self.namespace(namespace).await?,
        };
        let name = project.name_any();
        let bindings = stores.role_bindings.state().into_iter().filter(|binding| {
            binding.namespace().as_deref() == Some(namespace) && binding.labels().get(labels::PROJECT) == Some(&name)
        });
        let bindings: BTreeMap<_, _> = bindings
            .map(|binding| (binding.name_any(), binding.as_ref().clone()))
            .collect();
        let deleting = project.metadata.deletion_timestamp.is_some();
        let inside = if deleting {
            inside::inside(stores, namespace)
        } else {
            Vec::new()
        };
        let group = stores.security_group(namespace, DEFAULT);
        Ok(Seen {
            wants_group: security_group::are_enforced(&self.context) && group.is_none(),
            has_group: group.is_some(),
            namespace: live,
            bindings,
            inside,
        })
    }

    async fn namespace(&self, name: &str) -> Result<Option<Namespace>, Error> {
        let api: Api<Namespace> = Api::all(self.context.client.clone());
        match timeout(LIMIT, api.get_opt(name)).await {
            Ok(read) => read.map_err(|source| Error::Read {
                name: name.into(),
                source: Box::new(source),
            }),
            Err(_) => Err(Error::TimedOut(name.into())),
        }
    }

    async fn apply(&self, project: &Project, namespace: &str, seen: &Seen, step: Step) -> Result<bool, Error> {
        let writer = &self.context.writer;
        Ok(match step {
            Step::SetFinalizer => writer.add_finalizer(project, finalizers::CONTROLLER).await?.is_some(),
            Step::ApplyNamespace(wanted) => writer.apply(seen.namespace.as_ref(), wanted.as_ref()).await?.is_some(),
            Step::ApplyBinding(wanted) => writer
                .apply(seen.bindings.get(&wanted.name_any()), wanted.as_ref())
                .await?
                .is_some(),
            Step::MakeGroup(namespace) => {
                security_group::make_default(writer, &self.context.stores, &namespace).await?
            }
            Step::DeleteGroup(namespace) => match self.context.stores.security_group(&namespace, DEFAULT) {
                Some(group) if group.metadata.deletion_timestamp.is_none() => {
                    writer.delete(group.as_ref()).await.map(|()| true)?
                }
                _ => false,
            },
            Step::DeleteBinding(name) => match seen.bindings.get(&name) {
                Some(binding) => writer.delete(binding).await.map(|()| true)?,
                None => false,
            },
            Step::DeleteNamespace(_) => match &seen.namespace {
                Some(live) => writer.delete(live).await.map(|()| true)?,
                None => false,
            },
            Step::ReleaseNamespace(_) => {
                // A merge patch and not an apply: the label is the user's, who handed the namespace over with it.
                let release = json!({"metadata": {"labels": {labels::PROJECT: null}}});
                self.release(namespace, &release).await?;
                true
            }
            Step::RemoveFinalizer => writer
                .remove_finalizer(project, finalizers::CONTROLLER)
                .await?
                .is_some(),
        })
    }

    async fn release(&self, namespace: &str, patch: &serde_json::Value) -> Result<(), Error> {
        let api: Api<Namespace> = Api::all(self.context.client.clone());
        let params = kube::api::PatchParams {
            field_manager: Some(self.context.writer.manager().into()),
            ..Default::default()
        };
        let merge = kube::api::Patch::Merge(patch);
        match timeout(LIMIT, api.patch(namespace, &params, &merge)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if is_gone(&error) => Ok(()),
            Ok(Err(source)) => Err(Error::Read {
                name: namespace.into(),
                source: Box::new(source),
            }),
            Err(_) => Err(Error::TimedOut(namespace.into())),
        }
    }
}

#[cfg(test)]
mod tests;
