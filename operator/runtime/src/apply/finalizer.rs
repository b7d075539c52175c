//! How does a finalizer come and go? By a JSON patch that fails if the object is another by now, or its list is not as it
//! was read.

use json_patch::{
    AddOperation, Patch as JsonPatch, PatchOperation, RemoveOperation, TestOperation, jsonptr::PointerBuf,
};
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{Error, Object, Writer, decode};

impl Writer {
    /// Adds a finalizer, by a JSON patch that fails if the list has changed since `live` was read. `None`: it is there.
    pub async fn add_finalizer<K: Object>(&self, live: &K, finalizer: &str) -> Result<Option<K>, Error> {
        let finalizers = live.finalizers();
        if finalizers.iter().any(|present| present == finalizer) {
            return Ok(None);
        }
        let list = path(["metadata", "finalizers"]);
        let operations = if finalizers.is_empty() {
            // The API server lets `test` find null where there is nothing.
            vec![test(list.clone(), Value::Null), add(list, json!([finalizer]))]
        } else {
            vec![
                test(list, json!(finalizers)),
                add(path(["metadata", "finalizers", "-"]), finalizer.into()),
            ]
        };
        self.patch(live, "adding a finalizer to", operations).await.map(Some)
    }

    /// Removes a finalizer, by a JSON patch that fails if the list has changed since `live` was read. `None`: it is not
    /// there, or the object is gone.
    pub async fn remove_finalizer<K: Object>(&self, live: &K, finalizer: &str) -> Result<Option<K>, Error> {
        let Some(index) = live.finalizers().iter().position(|present| present == finalizer) else {
            return Ok(None);
        };
        let item = path(["metadata", "finalizers", &index.to_string()]);
        let remove = PatchOperation::Remove(RemoveOperation { path: item.clone() });
        match self
            .patch(
                live,
                "removing a finalizer from",
                vec![test(item, finalizer.into()), remove],
            )
            .await
        {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn patch<K: Object>(&self, live: &K, doing: &str, mut operations: Vec<PatchOperation>) -> Result<K, Error> {
        let (namespace, name) = (live.namespace(), live.name_any());
        let what = self.what::<K>(doing, namespace.as_deref(), &name);
        if let Some(uid) = live.uid() {
            operations.insert(0, test(path(["metadata", "uid"]), uid.into()));
        }
        let params = PatchParams {
            field_manager: Some(self.manager.clone()),
            ..PatchParams::default()
        };
        let patch = Patch::Json::<()>(JsonPatch(operations));
        let api = self.api::<K>(namespace.as_deref());
        match self.within(what.clone(), api.patch(&name, &params, &patch)).await {
            Ok(patched) => decode(&what, patched),
            // How the API server answers to a `test` that failed.
            Err(error) if error.code() == Some(422) => Err(Error::Raced { what }),
            Err(error) => Err(error),
        }
    }
}

fn path<const N: usize>(steps: [&str; N]) -> PointerBuf {
    PointerBuf::from_tokens(steps)
}

fn test(path: PointerBuf, value: Value) -> PatchOperation {
    PatchOperation::Test(TestOperation { path, value })
}

fn add(path: PointerBuf, value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path, value })
}
