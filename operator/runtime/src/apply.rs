//! How is an object written? By server-side apply with one field manager per writer, only when something differs, and
//! with a bound on every call.

mod finalizer;
mod merge;
mod shared;

use std::{fmt::Debug, future::Future, time::Duration};

use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::ApiResource,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::{
    class::{Class, Classify, is_gone, of_api},
    status::{is_current, keep_transition_times, without_nulls},
};

/// A kind that can be written.
pub trait Object: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync> Object for K {}

/// Why an object was not written, or may not have been: after [`Error::TimedOut`] nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server said no, or could not be reached.
    #[error("{what}")]
    Api {
        /// What was being done, to what.
        what: String,
        /// Its answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("{what}: no answer within {} s", limit.as_secs_f32())]
    TimedOut {
        /// What was being done, to what.
        what: String,
        /// How long we waited.
        limit: Duration,
    },
    /// The object has changed since it was read; read it again.
    #[error("{what}: it has changed since it was read")]
    Raced {
        /// What was being done, to what.
        what: String,
    },
    /// Our object does not become JSON, or its answer not our type.
    #[error("{what}")]
    Encode {
        /// What was being done, to what.
        what: String,
        /// What went wrong.
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// Whether the API server answered 409: a version or a field that is not ours to write.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Whether the object would not be valid as written.
    pub fn is_invalid(&self) -> bool {
        self.code() == Some(422)
    }

    /// Whether the object is gone; see [`is_gone`].
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { source, .. } if is_gone(source))
    }

    fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::Api { source, .. } => of_api(source),
            Self::TimedOut { .. } | Self::Raced { .. } => Class::Transient,
            Self::Encode { .. } => Class::Bug,
        }
    }
}

/// Writes objects as one field manager.
///
/// One manager is one place in the code that writes one set of fields: server-side apply takes away what a manager sent
/// before and no longer sends.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    manager: String,
    limit: Duration,
}

impl Writer {
    /// A writer whose calls may take 10 s each.
    pub fn new(client: Client, manager: impl Into<String>) -> Self {
        Self {
            client,
            manager: manager.into(),
            limit: Duration::from_secs(10),
        }
    }

    /// The same with another time-out for each call.
    pub fn with_timeout(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The field manager.
    pub fn manager(&self) -> &str {
        &self.manager
    }

    /// Applies what `wanted` says, but its status, and nothing if `live` (as last seen) says so already.
    ///
    /// Returns the object as written, or `None` when nothing was sent. A field that another manager owns with another
    /// value is a conflict, see [`Error::is_conflict`].
    pub async fn apply<K: Object>(&self, live: Option<&K>, wanted: &K) -> Result<Option<K>, Error> {
        let what = self.what::<K>("applying", wanted.namespace().as_deref(), &wanted.name_any());
        let fields = encode(&what, wanted)?;
        self.apply_fields(live, wanted.namespace().as_deref(), &wanted.name_any(), fields)
            .await
    }

    /// Applies some fields of an object that others write too, such as `{"spec": {"nodeName": "n1"}}`; else as
    /// [`Writer::apply`].
    pub async fn apply_fields<K: Object>(
        &self,
        live: Option<&K>,
        namespace: Option<&str>,
        name: &str,
        fields: Value,
    ) -> Result<Option<K>, Error> {
        let what = self.what::<K>("applying", namespace, name);
        let wanted = configuration::<K>(
            fields,
            namespace,
            name,
            live.and_then(|live| live.meta().uid.as_deref()),
        );
        if let Some(live) = live
            && is_current(&encode(&what, live)?, &wanted, &self.manager, None)
        {
            return Ok(None);
        }
        let params = PatchParams::apply(&self.manager);
        let api = self.api::<K>(namespace);
        let patched = self
            .within(what.clone(), api.patch(name, &params, &Patch::Apply(&wanted)))
            .await?;
        decode(&what, patched).map(Some)
    }

    /// Writes the status of `live`, and nothing if it is so already.
    ///
    /// A condition whose status has not changed keeps its `lastTransitionTime`, whatever `status` says. The write is
    /// forced: who writes a status is decided by protocol, and a former writer's fields must not stop the present one.
    /// If `live` is gone and another object has its name by now, that is [`Error::Raced`], and the other one keeps none of
    /// it. A condition that was said over another writer's is given up only when that one has said it anew: until then its
    /// part stays, and all else is written.
    ///
    /// Returns the object as written, or `None` when nothing was sent.
    pub async fn apply_status<K: Object>(&self, live: &K, status: &impl Serialize) -> Result<Option<K>, Error> {
        let (namespace, name) = (live.namespace(), live.name_any());
        let what = self.what::<K>("writing the status of", namespace.as_deref(), &name);
        let before = encode(&what, live)?;
        let mut status = without_nulls(encode(&what, status)?);
        if let Some(fields) = status.as_object_mut()
            && fields.get("conditions") == Some(&json!([]))
        {
            // Owned, an empty list would differ from one that holds only others' conditions.
            fields.remove("conditions");
        }
        keep_transition_times(&mut status, before.get("status"));
        let mut wanted = configuration::<K>(json!({}), namespace.as_deref(), &name, live.meta().uid.as_deref());
        // With nothing to say, not even an empty status is ours.
        if status.as_object().is_none_or(|fields| !fields.is_empty()) {
            wanted["status"] = status;
        }
        if is_current(&before, &wanted, &self.manager, Some("status")) {
            return Ok(None);
        }
        let params = PatchParams::apply(&self.manager).force();
        let api = self.api::<K>(namespace.as_deref());
        let write = async |body: &Value| {
            self.within(what.clone(), api.patch_status(&name, &params, &Patch::Apply(body)))
                .await
        };
        let patched = match write(&wanted).await {
            Err(error) if error.is_invalid() => {
                // Only the API server knows who owns what: caches keep our own part of that.
                let api = self.api::<K>(namespace.as_deref());
                let now = self.within(what.clone(), api.get_opt(&name)).await?;
                let Some(now) = now.filter(|now| live.uid().is_none() || now.metadata.uid == live.uid()) else {
                    return Err(error);
                };
                let now = encode(&what, &now)?;
                if !shared::keep(&mut wanted, &now, &self.manager) {
                    return Err(error);
                }
                if is_current(&now, &wanted, &self.manager, Some("status")) {
                    return Ok(None);
                }
                write(&wanted).await?
            }
            written => written?,
        };
        if live.uid().is_some() && patched.metadata.uid != live.uid() {
            // Through this door the API server passes over all metadata, so that an object of the same name that was made
            // since has got the words meant for its predecessor. They are taken back; its own are its next reconcile's.
            if let Some(fields) = wanted.as_object_mut() {
                fields.remove("status");
                fields.insert("metadata".into(), json!({"name": name}));
            }
            write(&wanted).await?;
            return Err(Error::Raced { what });
        }
        decode(&what, patched).map(Some)
    }

    /// Creates an object. `None`: one of that name is there already.
    pub async fn create<K: Object>(&self, object: &K) -> Result<Option<K>, Error> {
        let namespace = object.namespace();
        let what = self.what::<K>("creating", namespace.as_deref(), &object.name_any());
        let mut body = encode(&what, object)?;
        body["apiVersion"] = K::api_version(&()).into();
        body["kind"] = K::kind(&()).into();
        let object: DynamicObject = serde_json::from_value(body).map_err(|source| Error::Encode {
            what: what.clone(),
            source,
        })?;
        let params = PostParams {
            field_manager: Some(self.manager.clone()),
            ..PostParams::default()
        };
        let api = self.api::<K>(namespace.as_deref());
        match self.within(what.clone(), api.create(&params, &object)).await {
            Ok(created) => decode(&what, created).map(Some),
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// This very object as the API server has it now, past all that was seen of it before; absent when it is gone.
    pub async fn read<K: Object>(&self, seen: &K) -> Result<Option<K>, Error> {
        let (namespace, name) = (seen.namespace(), seen.name_any());
        let what = self.what::<K>("reading", namespace.as_deref(), &name);
        let api = self.api::<K>(namespace.as_deref());
        let Some(found) = self.within(what.clone(), api.get_opt(&name)).await? else {
            return Ok(None);
        };
        let found: K = decode(&what, found)?;
        Ok((found.uid() == seen.uid()).then_some(found))
    }

    /// All objects of a kind that have this label, in every namespace, as the API server has them now.
    pub async fn labelled<K: Object>(&self, label: &str, value: &str) -> Result<Vec<K>, Error> {
        let what = format!("listing {} with {label}={value}", K::plural(&()));
        let chosen = ListParams::default().labels(&format!("{label}={value}"));
        let api = self.api::<K>(None);
        let found = self.within(what.clone(), api.list(&chosen)).await?;
        found.into_iter().map(|object| decode(&what, object)).collect()
    }

    /// Deletes this very object, not another that has its name by now. One that is gone already is deleted.
    pub async fn delete<K: Object>(&self, live: &K) -> Result<(), Error> {
        let (namespace, name) = (live.namespace(), live.name_any());
        let what = self.what::<K>("deleting", namespace.as_deref(), &name);
        let preconditions = Preconditions {
            uid: live.uid(),
            resource_version: None,
        };
        let params = DeleteParams::background().preconditions(preconditions);
        let api = self.api::<K>(namespace.as_deref());
        match self.within(what, api.delete(&name, &params)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes this very object, if nobody has changed it since it was read; `false`: somebody has, or it is gone.
    pub async fn delete_unchanged<K: Object>(&self, live: &K) -> Result<bool, Error> {
        let (namespace, name) = (live.namespace(), live.name_any());
        let what = self.what::<K>("deleting", namespace.as_deref(), &name);
        let preconditions = Preconditions {
            uid: live.uid(),
            resource_version: live.resource_version(),
        };
        let params = DeleteParams::background().preconditions(preconditions);
        let api = self.api::<K>(namespace.as_deref());
        match self.within(what, api.delete(&name, &params)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One API for both scopes: a type's scope is not known where it is generic.
    fn api<K: Object>(&self, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<K>(&());
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    fn what<K: Object>(&self, doing: &str, namespace: Option<&str>, name: &str) -> String {
        let kind = K::kind(&());
        match namespace {
            Some(namespace) => format!("{doing} {kind} {namespace}/{name} as {}", self.manager),
            None => format!("{doing} {kind} {name} as {}", self.manager),
        }
    }

    async fn within<T>(&self, what: String, call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
        match timeout(self.limit, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(Error::Api {
                what,
                source: Box::new(source),
            }),
            Err(_) => Err(Error::TimedOut {
                what,
                limit: self.limit,
            }),
        }
    }
}

/// An apply configuration: the fields, under the object's type and name, without what only the API server writes.
///
/// The UID makes the write fail if the object is not the one we saw.
fn configuration<K: Object>(fields: Value, namespace: Option<&str>, name: &str, uid: Option<&str>) -> Value {
    let mut map = match without_nulls(fields) {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    map.remove("status");
    let mut metadata = match map.remove("metadata") {
        Some(Value::Object(metadata)) => metadata,
        _ => Map::new(),
    };
    metadata.retain(|field, _| ["labels", "annotations", "finalizers", "ownerReferences"].contains(&field.as_str()));
    metadata.insert("name".into(), name.into());
    if let Some(namespace) = namespace {
        metadata.insert("namespace".into(), namespace.into());
    }
    if let Some(uid) = uid {
        metadata.insert("uid".into(), uid.into());
    }
    map.insert("apiVersion".into(), K::api_version(&()).into());
    map.insert("kind".into(), K::kind(&()).into());
    map.insert("metadata".into(), metadata.into());
    Value::Object(map)
}

fn encode(what: &str, value: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(|source| Error::Encode {
        what: what.to_owned(),
        source,
    })
}

fn decode<K: Object>(what: &str, object: DynamicObject) -> Result<K, Error> {
    serde_json::to_value(object)
        .and_then(serde_json::from_value)
        .map_err(|source| Error::Encode {
            what: what.to_owned(),
            source,
        })
}
