//! How does one write say something that holds only as long as nobody else has written?

use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{Error, Object, Writer, decode};

impl Writer {
    /// Merges `fields` into this very object, if nobody has changed it since it was read; else it is [`Error::Raced`]. A
    /// field that is null is taken out.
    pub async fn merge_unchanged<K: Object>(&self, live: &K, doing: &str, mut fields: Value) -> Result<K, Error> {
        let (namespace, name) = (live.namespace(), live.name_any());
        let what = self.what::<K>(doing, namespace.as_deref(), &name);
        fields["metadata"]["uid"] = json!(live.uid());
        fields["metadata"]["resourceVersion"] = json!(live.resource_version());
        let params = PatchParams {
            field_manager: Some(self.manager.clone()),
            ..PatchParams::default()
        };
        let api = self.api::<K>(namespace.as_deref());
        let patch = Patch::Merge(&fields);
        match self.within(what.clone(), api.patch(&name, &params, &patch)).await {
            Ok(patched) => decode(&what, patched),
            Err(error) if error.is_conflict() => Err(Error::Raced { what }),
            Err(error) => Err(error),
        }
    }
}
