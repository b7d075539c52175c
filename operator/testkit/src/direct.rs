//! What a test does to the server itself, past the log, and what it waits for.

use std::{fmt::Debug, sync::Arc, time::Duration};

use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    api::FakeApi,
    resource::Served,
    respond::Failure,
    store::Key,
    write::{Action, Write, Written},
};

/// How long, in virtual time, a test waits for a condition.
const PATIENCE: Duration = Duration::from_mins(10);

impl FakeApi {
    /// Creates an object, as a user would with kubectl, and returns it. Its status is written as well, if it has one.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn create<K: Resource<DynamicType = ()> + Serialize + DeserializeOwned>(&self, object: &K) -> K {
        let body = serde_json::to_value(object).expect("the object is JSON");
        let meta = object.meta();
        let namespace = meta.namespace.as_deref();
        let name = meta.name.clone().unwrap_or_default();
        let status = body.get("status").filter(|status| !status.is_null()).cloned();
        let created = self.direct::<K>(namespace, &name, None, Action::Create, body);
        if let Some(status) = status
            && self.served::<K>().status
        {
            let name = created.object["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let body = json!({"status": status});
            return parse(
                self.direct::<K>(namespace, &name, Some("status"), Action::MergePatch, body)
                    .object,
            );
        }
        parse(created.object)
    }

    /// The object, if it is there.
    pub fn read<K: Resource<DynamicType = ()> + DeserializeOwned>(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<K> {
        let key = key(&self.served::<K>(), namespace, name);
        self.shared
            .lock()
            .objects
            .get(&key)
            .map(|stored| parse(stored.render()))
    }

    /// All objects of a kind, in the order of their namespaces and names.
    pub fn list<K: Resource<DynamicType = ()> + DeserializeOwned>(&self) -> Vec<K> {
        let served = self.served::<K>();
        let state = self.shared.lock();
        state
            .objects_of(&served, None)
            .map(|(_, stored)| parse(stored.render()))
            .collect()
    }

    /// Merges a patch into an object, as a user would with kubectl.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn merge<K: Resource<DynamicType = ()>>(&self, namespace: Option<&str>, name: &str, patch: Value) {
        self.direct::<K>(namespace, name, None, Action::MergePatch, patch);
    }

    /// Merges a patch such as `{"state": "Active"}` into an object's status.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn merge_status<K: Resource<DynamicType = ()>>(&self, namespace: Option<&str>, name: &str, patch: Value) {
        let mut body = json!({});
        body["status"] = patch;
        self.direct::<K>(namespace, name, Some("status"), Action::MergePatch, body);
    }

    /// Deletes an object; one with finalizers stays until they are gone.
    ///
    /// # Panics
    /// When there is no such object.
    pub fn delete<K: Resource<DynamicType = ()>>(&self, namespace: Option<&str>, name: &str) {
        self.direct::<K>(namespace, name, None, Action::Delete, Value::Null);
    }

    /// Deletes every object none of whose owners is there any more, as the garbage collector would.
    pub fn collect_garbage(&self) {
        self.shared.lock().collect_garbage();
        self.shared.touch();
    }

    fn served<K: Resource<DynamicType = ()>>(&self) -> Arc<Served> {
        let (group, plural) = (K::group(&()), K::plural(&()));
        let state = self.shared.lock();
        let found = state
            .served
            .iter()
            .find(|served| served.group == group && served.plural == plural);
        found
            .unwrap_or_else(|| panic!("{plural}.{group} is not served: add with_crd or with"))
            .clone()
    }

    fn direct<K: Resource<DynamicType = ()>>(
        &self,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        action: Action,
        body: Value,
    ) -> Written {
        let served = self.served::<K>();
        let write = Write {
            key: key(&served, namespace, name),
            subresource: subresource.map(str::to_owned),
            manager: Some("kubectl".into()),
            action,
            body,
            force: false,
            dry_run: false,
            mutation: None,
        };
        let written = self.shared.lock().write(&served, write);
        self.shared.touch();
        match written {
            Ok(written) => written,
            Err(Failure { code, message, .. }) => panic!("{action:?} of {} {name}: {code} {message}", served.plural),
        }
    }

    /// Waits until the object (or its absence) is as the condition says, and returns it.
    ///
    /// # Panics
    /// When that has not come after 10 minutes of virtual time, with the object and the log.
    pub async fn await_condition<K>(
        &self,
        namespace: Option<&str>,
        name: &str,
        condition: impl Fn(Option<&K>) -> bool,
    ) -> Option<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Debug,
    {
        let mut changes = self.shared.changes.subscribe();
        let wait = async {
            loop {
                changes.borrow_and_update();
                let object = self.read::<K>(namespace, name);
                if condition(object.as_ref()) {
                    return object;
                }
                if changes.changed().await.is_err() {
                    return object;
                }
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| {
            panic!(
                "{} {name} did not come to be as awaited:\n{:#?}\nafter:\n{}",
                K::kind(&()),
                self.read::<K>(namespace, name),
                self.story()
            )
        })
    }

    /// Waits until no request has come for this long. Watches that end and begin again do not count.
    ///
    /// # Panics
    /// When that has not come after a thousand times as long, with the log.
    pub async fn settle(&self, quiet: Duration) {
        for _ in 0..1000 {
            let mark = self.mark();
            tokio::time::sleep(quiet).await;
            if self.requests_since(mark).is_empty() {
                return;
            }
        }
        panic!("requests do not end:\n{}", self.story());
    }
}

fn key(served: &Served, namespace: Option<&str>, name: &str) -> Key {
    Key {
        group: served.group.clone(),
        plural: served.plural.clone(),
        namespace: if served.namespaced {
            namespace.unwrap_or_default().to_owned()
        } else {
            String::new()
        },
        name: name.to_owned(),
    }
}

fn parse<K: DeserializeOwned>(object: Value) -> K {
    let shown = object.clone();
    serde_json::from_value(object).unwrap_or_else(|error| panic!("{error} in {shown:#}"))
}
