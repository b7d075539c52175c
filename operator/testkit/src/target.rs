//! What does an HTTP request mean: which kind, which object or collection, which verb, and in whose name?

use std::{collections::HashMap, sync::Arc};

use http::{Method, header, request::Parts};

use crate::{
    log::Verb,
    resource::Served,
    respond::Failure,
    select::Selector,
    store::{Key, State},
};

/// What a path and its query mean.
pub(crate) struct Target {
    pub served: Arc<Served>,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
    query: HashMap<String, String>,
}

pub(crate) fn target(state: &State, parts: &Parts) -> Result<Target, Failure> {
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
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.query(name) == Some("true")
    }

    pub fn key(&self) -> Key {
        Key {
            group: self.served.group.clone(),
            plural: self.served.plural.clone(),
            namespace: self.namespace.clone().unwrap_or_default(),
            name: self.name.clone().unwrap_or_default(),
        }
    }

    pub fn selector(&self) -> Result<Selector, Failure> {
        let (labels, fields) = (
            self.query("labelSelector").unwrap_or(""),
            self.query("fieldSelector").unwrap_or(""),
        );
        Selector::parse(labels, fields)
            .map_err(|part| Failure::new(400, format!("unable to parse the selector {part:?}")))
    }
}

pub(crate) fn verb(parts: &Parts, target: &Target) -> Option<Verb> {
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

/// The field manager: as given, or else the first part of the user agent, but for an apply, which must give it.
pub(crate) fn manager(target: &Target, parts: &Parts) -> Option<String> {
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

pub(crate) fn content_type(parts: &Parts) -> &str {
    parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

pub(crate) fn wants_partial(parts: &Parts) -> bool {
    let accept = parts
        .headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accept.contains("as=PartialObjectMetadata")
}
