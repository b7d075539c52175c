//! What does a watch hear?

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{Stream, stream};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    api::Shared,
    resource::Served,
    respond::Failure,
    select::Selector,
    store::{Change, Kind, State},
};

/// How often a quiet watch hears where it stands.
const BOOKMARK_INTERVAL: Duration = Duration::from_mins(1);

/// What a client asked to watch.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub served: Arc<Served>,
    pub namespace: Option<String>,
    pub selector: Selector,
    /// Empty or 0: from what is there now.
    pub version: u64,
    pub bookmarks: bool,
    pub initial_events: bool,
    pub timeout: Duration,
    /// Metadata only.
    pub partial: bool,
}

struct Watcher {
    shared: Arc<Shared>,
    asked: Asked,
    changes: watch::Receiver<u64>,
    /// The first entry of the history that was not looked at.
    next: usize,
    position: u64,
    watch_epoch: u64,
    expire_epoch: u64,
    queue: VecDeque<Value>,
    ends_at: Instant,
    bookmark_at: Instant,
    over: bool,
}

/// The events of a watch, one JSON value each.
pub(crate) fn events(shared: &Arc<Shared>, asked: Asked) -> impl Stream<Item = Value> + Send + use<> {
    let watcher = Watcher::begin(shared, asked);
    stream::unfold(watcher, |mut watcher| async move {
        loop {
            if let Some(event) = watcher.queue.pop_front() {
                return Some((event, watcher));
            }
            if watcher.over {
                return None;
            }
            watcher.changes.borrow_and_update();
            watcher.look();
            if !watcher.queue.is_empty() || watcher.over {
                continue;
            }
            tokio::select! {
                biased;
                changed = watcher.changes.changed() => watcher.over = changed.is_err(),
                () = sleep_until(watcher.ends_at) => watcher.over = true,
                () = sleep_until(watcher.bookmark_at) => {
                    watcher.bookmark(None);
                    watcher.bookmark_at += BOOKMARK_INTERVAL;
                }
            }
        }
    })
}

impl Watcher {
    fn begin(shared: &Arc<Shared>, asked: Asked) -> Self {
        let now = Instant::now();
        let changes = shared.changes.subscribe();
        let state = shared.lock();
        let mut watcher = Self {
            changes,
            next: state.history.partition_point(|change| change.version <= asked.version),
            position: asked.version,
            watch_epoch: state.watch_epoch,
            expire_epoch: state.expire_epoch,
            queue: VecDeque::new(),
            ends_at: now + asked.timeout,
            bookmark_at: now + BOOKMARK_INTERVAL,
            over: false,
            shared: shared.clone(),
            asked,
        };
        if watcher.asked.version == 0 || watcher.asked.initial_events {
            let found: Vec<Value> = state
                .objects_of(&watcher.asked.served, watcher.asked.namespace.as_deref())
                .map(|(_, stored)| stored.render())
                .filter(|object| watcher.asked.selector.matches(object))
                .collect();
            for object in found {
                watcher.push("ADDED", &object);
            }
            watcher.next = state.history.len();
            watcher.position = state.version;
            if watcher.asked.initial_events {
                watcher.bookmark(Some("k8s.io/initial-events-end"));
            }
        } else if watcher.asked.version < state.compacted {
            watcher.expired();
        }
        drop(state);
        watcher
    }

    fn look(&mut self) {
        let shared = self.shared.clone();
        let state = shared.lock();
        if state.expire_epoch != self.expire_epoch {
            return self.expired();
        }
        if state.watch_epoch != self.watch_epoch {
            self.over = true;
            return;
        }
        if !state.held {
            self.read(&state);
        }
    }

    fn read(&mut self, state: &State) {
        for change in &state.history[self.next..] {
            self.position = change.version;
            self.hear(change);
        }
        self.next = state.history.len();
    }

    /// An object that begins or ceases to match appears or goes, whatever really happened to it.
    fn hear(&mut self, change: &Change) {
        let Asked {
            served,
            namespace,
            selector,
            ..
        } = &self.asked;
        let same_kind = change.key.group == served.group && change.key.plural == served.plural;
        if !same_kind
            || namespace
                .as_ref()
                .is_some_and(|namespace| *namespace != change.key.namespace)
        {
            return;
        }
        let did = change.before.as_ref().is_some_and(|before| selector.matches(before));
        let does = change.kind != Kind::Deleted && selector.matches(&change.object);
        let object = change.object.clone();
        match (did, does) {
            (false, true) => self.push("ADDED", &object),
            (true, true) => self.push("MODIFIED", &object),
            (true, false) => self.push("DELETED", &object),
            (false, false) => {}
        }
    }

    fn push(&mut self, kind: &str, object: &Value) {
        let object = if self.asked.partial {
            partial(object)
        } else {
            object.clone()
        };
        self.queue.push_back(json!({"type": kind, "object": object}));
    }

    fn bookmark(&mut self, annotation: Option<&str>) {
        if !self.asked.bookmarks {
            return;
        }
        let mut metadata = json!({"resourceVersion": self.position.to_string()});
        if let Some(annotation) = annotation {
            metadata["annotations"] = json!({annotation: "true"});
        }
        let served = &self.asked.served;
        let object = json!({"apiVersion": served.api_version(), "kind": served.kind, "metadata": metadata});
        self.queue.push_back(json!({"type": "BOOKMARK", "object": object}));
    }

    fn expired(&mut self) {
        let failure = Failure::new(410, format!("too old resource version: {}", self.position));
        self.queue
            .push_back(json!({"type": "ERROR", "object": failure.to_json()}));
        self.over = true;
    }
}

/// The object's metadata alone, as a client may ask for.
pub(crate) fn partial(object: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}
