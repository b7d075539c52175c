//! What is done to a collection: it is listed in pages, or deleted.

use http::Response;
use serde_json::{Value, json};

use crate::{
    respond::{Body, Failure, whole},
    store::{Key, State},
    target::Target,
    watch::partial,
    write::{Action, Write, Written},
};

/// A page of a list. The continue token is the version of the first page and the last key of the one before.
pub(crate) fn list(state: &State, target: &Target, partial_only: bool) -> Result<Response<Body>, Failure> {
    let selector = target.selector()?;
    let token: Option<(u64, String, String)> = match target.query("continue") {
        Some(text) => Some(serde_json::from_str(text).map_err(|_| Failure::new(400, "continue key is not valid"))?),
        None => None,
    };
    if token.as_ref().is_some_and(|(version, ..)| *version < state.compacted) {
        return Err(Failure::new(410, "the provided continue parameter is too old"));
    }
    let limit = target
        .query("limit")
        .and_then(|limit| limit.parse().ok())
        .filter(|limit| *limit > 0);
    let after = |key: &Key| {
        token
            .as_ref()
            .is_none_or(|(_, namespace, name)| (&key.namespace, &key.name) > (namespace, name))
    };
    let mut found = state
        .objects_of(&target.served, target.namespace.as_deref())
        .filter(|(key, _)| after(key))
        .map(|(key, stored)| (key, stored.render()))
        .filter(|(_, object)| selector.matches(object));
    let version = token.as_ref().map_or(state.version, |(version, ..)| *version);
    let page: Vec<(&Key, Value)> = found.by_ref().take(limit.unwrap_or(usize::MAX)).collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let (Some((last, _)), true) = (page.last(), found.next().is_some()) {
        metadata["continue"] = json!((version, &last.namespace, &last.name)).to_string().into();
    }
    let served = &target.served;
    let (api_version, kind) = if partial_only {
        ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned())
    } else {
        (served.api_version(), format!("{}List", served.kind))
    };
    let items: Vec<Value> = page
        .into_iter()
        .map(|(_, object)| if partial_only { partial(&object) } else { object })
        .collect();
    Ok(whole(
        200,
        &json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "items": items}),
    ))
}

pub(crate) fn delete_collection(
    state: &mut State,
    target: &Target,
    body: &Value,
    index: usize,
) -> Result<Response<Body>, Failure> {
    let selector = target.selector()?;
    let keys: Vec<Key> = state
        .objects_of(&target.served, target.namespace.as_deref())
        .filter(|(_, stored)| selector.matches(&stored.object))
        .map(|(key, _)| key.clone())
        .collect();
    for key in keys {
        let write = Write {
            key,
            subresource: None,
            manager: None,
            action: Action::Delete,
            body: body.clone(),
            force: false,
            dry_run: false,
            mutation: None,
        };
        let Written { changed, .. } = state.write(&target.served, write)?;
        state.log[index].changed |= changed;
    }
    Ok(whole(
        200,
        &json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"}),
    ))
}
