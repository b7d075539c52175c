//! Who answers an HTTP request, and which faults come between?

use std::{io, sync::Arc, time::Duration};

use http::{HeaderValue, Response, header, request::Parts};
use http_body_util::BodyExt;
use kube::client::Body as ClientBody;
use serde_json::Value;

use crate::{
    api::Shared,
    collection::{delete_collection, list},
    fault::{Effect, strike},
    log::{Request, Verb},
    respond::{Body, Failure, lines, whole},
    store::State,
    target::{Target, content_type, manager, target, verb, wants_partial},
    watch::{Asked, events, partial},
    write::{Action, Write},
};

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
