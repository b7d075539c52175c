//! What does an HTTP request mean, and who answers it?

use std::{
    collections::HashMap,
    io,
    sync::{Arc, PoisonError},
    time::Duration,
};

use http::{HeaderValue, Method, Response, header, request::Parts};
use http_body_util::BodyExt;
use kube::client::Body as ClientBody;
use serde_json::{Value, json};

use crate::{
    api::Shared,
    fault::{Effect, strike},
    log::{Request, Verb},
    resource::Served,
    respond::{Body, Failure, lines, whole},
    select::Selector,
    store::{Key, State},
    watch::{Asked, events, partial},
    write::{Action, Write, Written},
};

/// What a path and its query mean.
struct Target {
    served: Arc<Served>,
    namespace: Option<String>,
    name: Option<String>,
    subresource: Option<String>,
    query: HashMap<String, String>,
}

pub(crate) async fn serve(
    shared: Arc<Shared>,
    user: String,
    request: http::Request<ClientBody>,
) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let body: Value = if bytes.is_empty() {
        Value::Null
    } else {
        match serde_json::from_slice(&bytes) {
            Ok(body) => body,
            Err(error) => return Ok(refuse(&Failure::new(400, format!("reading the body: {error}")))),
        }
    };
    let target = match target(&shared.lock(), &parts) {
        Ok(target) => target,
        Err(failure) => return Ok(refuse(&failure)),
    };
    let Some(verb) = verb(&parts, &target) else {
        return Ok(refuse(&Failure::new(
            405,
            "the server does not allow this method on the requested resource",
        )));
    };
    let (index, fault) = {
        let mut state = shared.lock();
        let entry = entry(&state, &target, &parts, user.clone(), verb, body.clone());
        let fault = strike(&mut state.faults, &entry);
        state.log.push(entry);
        (state.log.len() - 1, fault)
    };
    shared.touch();
    let effect = fault.as_ref().map(|fault| fault.effect);
    match effect {
        Some(Effect::Hang) => std::future::pending().await,
        Some(Effect::Disconnect) => return Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        Some(Effect::Delay(by)) => tokio::time::sleep(by).await,
        _ => {}
    }
    let response = match effect {
        Some(Effect::Status(code)) => Err(Failure::new(code, "injected by the test")),
        _ if verb == Verb::Watch => watch(&shared, &target, &parts),
        _ => answer(&shared, &target, &parts, &user, verb, body, index).await,
    };
    let response = match effect {
        Some(Effect::CommitThenHang) => std::future::pending().await,
        Some(Effect::CommitThenStatus(code)) => Err(Failure::new(code, "injected by the test, after the write")),
        _ => response,
    };
    let mut response = response.unwrap_or_else(|failure| refuse(&failure));
    if let Some(seconds) = fault.and_then(|fault| fault.retry_after) {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    shared.lock().log[index].code = response.status().as_u16();
    shared.touch();
    Ok(response)
}

fn refuse(failure: &Failure) -> Response<Body> {
    whole(failure.code, &failure.to_json())
}

fn target(state: &State, parts: &Parts) -> Result<Target, Failure> {
    let path = parts.uri.path();
    let unknown = || Failure::new(404, format!("the server could not find the requested resource {path}"));
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (group, version, rest) = match segments.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Err(unknown()),
    };
    let find = |plural: &str| {
        let same =
            |served: &&Arc<Served>| served.group == group && served.version == version && served.plural == plural;
        state.served.iter().find(same).cloned()
    };
    let (served, namespace, rest) = match rest {
        // namespaces/NAME/status is a door of the namespace; namespaces/NAME/pods is a kind in it.
        ["namespaces", namespace, plural, rest @ ..] if find(plural).is_some_and(|served| served.namespaced) => {
            (find(plural), Some((*namespace).to_owned()), rest)
        }
        [plural, rest @ ..] => (find(plural), None, rest),
        [] => return Err(unknown()),
    };
    let served = served.ok_or_else(unknown)?;
    let (name, subresource) = match rest {
        [] => (None, None),
        [name] => (Some((*name).to_owned()), None),
        [name, subresource] => (Some((*name).to_owned()), Some((*subresource).to_owned())),
        _ => return Err(unknown()),
    };
    let query = parts.uri.query().unwrap_or_default();
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    Ok(Target {
        served,
        namespace,
        name,
        subresource,
        query,
    })
}

impl Target {
    fn query(&self, name: &str) -> Option<&str> {
        self.query
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    fn is_set(&self, name: &str) -> bool {
        self.query(name) == Some("true")
    }

    fn key(&self) -> Key {
        Key {
            group: self.served.group.clone(),
            plural: self.served.plural.clone(),
            namespace: self.namespace.clone().unwrap_or_default(),
            name: self.name.clone().unwrap_or_default(),
        }
    }

    fn selector(&self) -> Result<Selector, Failure> {
        let (labels, fields) = (
            self.query("labelSelector").unwrap_or(""),
            self.query("fieldSelector").unwrap_or(""),
        );
        Selector::parse(labels, fields)
            .map_err(|part| Failure::new(400, format!("unable to parse the selector {part:?}")))
    }
}

fn verb(parts: &Parts, target: &Target) -> Option<Verb> {
    Some(match (&parts.method, &target.name) {
        (&Method::GET, Some(_)) => Verb::Get,
        (&Method::GET, None) if target.is_set("watch") => Verb::Watch,
        (&Method::GET, None) => Verb::List,
        (&Method::POST, None) => Verb::Create,
        (&Method::PUT, Some(_)) => Verb::Update,
        (&Method::PATCH, Some(_)) => Verb::Patch,
        (&Method::DELETE, Some(_)) => Verb::Delete,
        (&Method::DELETE, None) => Verb::DeleteCollection,
        _ => return None,
    })
}

fn entry(state: &State, target: &Target, parts: &Parts, user: String, verb: Verb, body: Value) -> Request {
    let name = target
        .name
        .clone()
        .or_else(|| Some(body.pointer("/metadata/name")?.as_str()?.to_owned()));
    Request {
        at: state.clock.now(),
        user,
        verb,
        group: target.served.group.clone(),
        resource: target.served.plural.clone(),
        subresource: target.subresource.clone(),
        namespace: target.namespace.clone(),
        name,
        field_manager: manager(target, parts),
        body,
        code: 0,
        changed: false,
        created: false,
    }
}

/// The field manager: as given, or else the first part of the user agent, but for an apply, which must give it.
fn manager(target: &Target, parts: &Parts) -> Option<String> {
    let given = target.query("fieldManager").map(str::to_owned);
    let agent = || {
        let agent = parts.headers.get(header::USER_AGENT)?.to_str().ok()?;
        agent.split('/').next().map(str::to_owned)
    };
    given.or_else(|| {
        if content_type(parts).contains("apply-patch") {
            None
        } else {
            agent()
        }
    })
}

fn content_type(parts: &Parts) -> &str {
    parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn wants_partial(parts: &Parts) -> bool {
    let accept = parts
        .headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accept.contains("as=PartialObjectMetadata")
}

fn watch(shared: &Arc<Shared>, target: &Target, parts: &Parts) -> Result<Response<Body>, Failure> {
    let number = |name: &str| target.query(name).and_then(|text| text.parse::<u64>().ok());
    let asked = Asked {
        served: target.served.clone(),
        namespace: target.namespace.clone(),
        selector: target.selector()?,
        version: number("resourceVersion").unwrap_or(0),
        bookmarks: target.is_set("allowWatchBookmarks"),
        initial_events: target.is_set("sendInitialEvents"),
        timeout: Duration::from_secs(number("timeoutSeconds").unwrap_or(1800)),
        partial: wants_partial(parts),
    };
    Ok(lines(events(shared, asked)))
}

async fn answer(
    shared: &Arc<Shared>,
    target: &Target,
    parts: &Parts,
    user: &str,
    verb: Verb,
    body: Value,
    index: usize,
) -> Result<Response<Body>, Failure> {
    let shape = |object: &Value| {
        if wants_partial(parts) {
            partial(object)
        } else {
            object.clone()
        }
    };
    match verb {
        Verb::Get => {
            let state = shared.lock();
            let key = target.key();
            let stored = state.objects.get(&key);
            let stored = stored
                .ok_or_else(|| Failure::new(404, format!("{}.{} {:?} not found", key.plural, key.group, key.name)))?;
            Ok(whole(200, &shape(&stored.render())))
        }
        Verb::List => list(&shared.lock(), target, wants_partial(parts)),
        Verb::DeleteCollection => delete_collection(&mut shared.lock(), target, &body, index),
        _ => {
            let write = write_of(target, parts, verb, body)?;
            let written = shared.write(&target.served, write, user).await?;
            let mut state = shared.lock();
            let entry = &mut state.log[index];
            entry.changed = written.changed;
            entry.created = written.changed && written.before.is_none();
            if let Some(name) = written.object.pointer("/metadata/name").and_then(Value::as_str) {
                entry.name = Some(name.to_owned());
            }
            Ok(whole(written.code, &shape(&written.object)))
        }
    }
}

fn write_of(target: &Target, parts: &Parts, verb: Verb, body: Value) -> Result<Write, Failure> {
    let action = match (verb, content_type(parts)) {
        (Verb::Create, _) => Action::Create,
        (Verb::Update, _) => Action::Replace,
        (Verb::Delete, _) => Action::Delete,
        (_, "application/apply-patch+yaml") => Action::Apply,
        (_, "application/json-patch+json") => Action::JsonPatch,
        (_, "application/merge-patch+json") => Action::MergePatch,
        (_, other) => return Err(Failure::new(415, format!("{other:?} is not a supported kind of patch"))),
    };
    let mut key = target.key();
    if action == Action::Create {
        let name = body.pointer("/metadata/name").and_then(Value::as_str);
        name.unwrap_or_default().clone_into(&mut key.name);
    }
    if target.served.namespaced && key.namespace.is_empty() {
        return Err(Failure::new(400, "an empty namespace may not be set on this kind"));
    }
    Ok(Write {
        key,
        subresource: target.subresource.clone(),
        manager: manager(target, parts),
        action,
        force: target.is_set("force"),
        dry_run: target.query("dryRun").is_some(),
        mutation: None,
        body,
    })
}

/// A page of a list. The continue token is the version of the first page and the last key of the one before.
fn list(state: &State, target: &Target, partial_only: bool) -> Result<Response<Body>, Failure> {
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

fn delete_collection(
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

impl Shared {
    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the watches and whoever waits for a condition.
    pub(crate) fn touch(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}
