//! What does the cluster hold now? One watch per kind and process: a store to read, and a stream of changes to act on.
//!
//! An object that cannot be read as its type never reaches the store, and one that could be read before and no longer
//! can leaves it, so that nobody acts on a spec that is no longer true.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt::Debug,
    hash::Hash,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, NamespaceScope, error_boundary::InvalidObject},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// How many changes a slow reader may be behind. One that is further behind gets the whole store again instead.
const BACKLOG: usize = 1024;
/// How often a store that is not ready is looked at again.
const READY_CHECK: Duration = Duration::from_millis(50);

/// What happened to an object.
#[derive(Debug)]
pub enum Change<K> {
    /// It is there, new or changed.
    Applied(Arc<K>),
    /// It is gone; this is the last that was seen of it.
    Deleted(Arc<K>),
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Applied(object) => Self::Applied(object.clone()),
            Self::Deleted(object) => Self::Deleted(object.clone()),
        }
    }
}

impl<K> Change<K> {
    /// The object, there or gone.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Applied(object) | Self::Deleted(object) => object,
        }
    }
}

type OnInvalid = Box<dyn Fn(&InvalidObject) + Send + Sync>;

/// A watch of one kind. Make it, subscribe, then run it.
pub struct Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    writer: Writer<K>,
    changes: broadcast::Sender<Change<K>>,
    on_invalid: Option<OnInvalid>,
    trim: fn(&mut K),
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Watches the kind everywhere. `config` may select by label or field.
    pub fn all(client: Client, config: watcher::Config) -> Self {
        Self::of(Api::all_with(client, &()), config)
    }

    /// Watches the kind in one namespace.
    pub fn within(client: Client, namespace: &str, config: watcher::Config) -> Self
    where
        K::Scope: NamespaceScope,
    {
        Self::of(Api::all_with(client, &()).constrain(namespace), config)
    }

    fn of(api: Api<DeserializeGuard<K>>, config: watcher::Config) -> Self {
        let (changes, _) = broadcast::channel(BACKLOG);
        Self {
            api,
            config,
            writer: Writer::default(),
            changes,
            on_invalid: None,
            trim: |_| {},
        }
    }

    /// Takes away what no reader needs before an object reaches the store, to save memory. What [`crate::apply`] needs to
    /// see that nothing changed must stay: the `managedFields` of this process's own field managers.
    pub fn trimmed(mut self, trim: fn(&mut K)) -> Self {
        self.trim = trim;
        self
    }

    /// Calls this with each object that cannot be read, each time it is seen, besides the log line.
    pub fn on_invalid(mut self, report: impl Fn(&InvalidObject) + Send + Sync + 'static) -> Self {
        self.on_invalid = Some(Box::new(report));
        self
    }

    /// The objects as last seen. Empty until the first list is complete: see [`ready`].
    pub fn store(&self) -> Store<K> {
        self.writer.as_reader()
    }

    /// Changes from now on, after what the store holds now.
    ///
    /// A reader that falls behind gets all that the store holds as [`Change::Applied`] again, and may miss a
    /// [`Change::Deleted`]: back it up with a slow resync.
    pub fn changes(&self) -> impl Stream<Item = Change<K>> + Send + use<K> {
        let receiver = self.changes.subscribe();
        let store = self.store();
        let known = store.state().into_iter().map(Change::Applied).collect::<VecDeque<_>>();
        stream::unfold(
            (receiver, store, known),
            |(mut receiver, store, mut pending)| async move {
                loop {
                    if let Some(change) = pending.pop_front() {
                        return Some((change, (receiver, store, pending)));
                    }
                    match receiver.recv().await {
                        Ok(change) => pending.push_back(change),
                        Err(broadcast::error::RecvError::Lagged(_)) => {
                            pending.extend(store.state().into_iter().map(Change::Applied));
                        }
                        Err(broadcast::error::RecvError::Closed) => return None,
                    }
                }
            },
        )
    }

    /// Objects that are new or changed: the trigger of their own controller.
    pub fn applied(&self) -> impl Stream<Item = Arc<K>> + Send + use<K> {
        self.changes().filter_map(async |change| match change {
            Change::Applied(object) => Some(object),
            Change::Deleted(_) => None,
        })
    }

    /// Objects that are new, changed or gone: the trigger of other controllers that depend on them.
    pub fn touched(&self) -> impl Stream<Item = Arc<K>> + Send + use<K> {
        self.changes().map(|change| change.object().clone())
    }

    /// Objects that are new, gone, about to go, or whose spec is another: the trigger of controllers that depend on what is
    /// asked of them. A status tells of uses, and so changes with each of them: it would wake all others.
    pub fn respecified(&self) -> impl Stream<Item = Arc<K>> + Send + use<K> {
        let mut known = HashMap::new();
        self.changes().filter_map(move |change| {
            let object = change.object().clone();
            let meta = object.meta();
            let (key, is) = (
                (meta.namespace.clone(), meta.name.clone()),
                (meta.uid.clone(), meta.generation, meta.deletion_timestamp.is_some()),
            );
            let news = match change {
                // Some kinds have no generation.
                Change::Applied(_) => meta.generation.is_none() || known.insert(key, is.clone()) != Some(is),
                Change::Deleted(_) => {
                    known.remove(&key);
                    true
                }
            };
            std::future::ready(news.then_some(object))
        })
    }

    /// Keeps the store up to date until `stop` is cancelled. The streams of changes end with it.
    pub async fn run(self, stop: CancellationToken) {
        let Self {
            api,
            config,
            mut writer,
            changes,
            on_invalid,
            trim,
        } = self;
        let store = writer.as_reader();
        let mut before = None;
        let events = watcher(api, config)
            .default_backoff()
            .take_until(stop.cancelled_owned());
        let mut events = pin!(events);
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), error = crate::class::chain(&error), "watching");
                    continue;
                }
            };
            let Some(mut event) = readable(event, &store, on_invalid.as_ref()) else {
                continue;
            };
            if let Event::Apply(object) | Event::InitApply(object) = &mut event {
                trim(object);
            }
            if matches!(event, Event::InitDone) {
                before = Some(versions(&store));
            }
            writer.apply_watcher_event(&event);
            // A failure to send means that nobody listens.
            match event {
                Event::Apply(object) => drop(changes.send(Change::Applied(Arc::new(object)))),
                Event::Delete(object) => drop(changes.send(Change::Deleted(Arc::new(object)))),
                Event::InitDone => {
                    for change in difference(before.take().unwrap_or_default(), &store) {
                        drop(changes.send(change));
                    }
                }
                Event::Init | Event::InitApply(_) => {}
            }
        }
    }
}

/// Ends when the store has been filled for the first time; `false` if its watch ended before.
pub async fn ready<K>(store: &Store<K>) -> bool
where
    K: reflector::Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    // kube (5.0.0, utils/delayed_init.rs) keeps one waker per store: of several tasks that wait, only the one that was
    // polled last is woken. So each looks again by itself. A Controller waits in the same way, and can't be helped: start
    // it when its stores are ready.
    loop {
        tokio::select! {
            ready = store.wait_until_ready() => return ready.is_ok(),
            () = tokio::time::sleep(READY_CHECK) => {}
        }
    }
}

/// The event without its guard: `None` for an object that cannot be read and is not in the store anyway.
fn readable<K>(event: Event<DeserializeGuard<K>>, store: &Store<K>, report: Option<&OnInvalid>) -> Option<Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let reject = |invalid: InvalidObject| {
        tracing::warn!(
            kind = %K::kind(&()),
            namespace = invalid.metadata.namespace,
            name = invalid.metadata.name,
            error = invalid.error,
            "skipping an object that cannot be read"
        );
        if let Some(report) = report {
            report(&invalid);
        }
        invalid
    };
    let known = |invalid: &InvalidObject| {
        let mut key = ObjectRef::<K>::new(invalid.metadata.name.as_deref()?);
        key.namespace.clone_from(&invalid.metadata.namespace);
        store.get(&key).map(|object| Event::Delete(K::clone(&object)))
    };
    match event {
        Event::Init => Some(Event::Init),
        Event::InitDone => Some(Event::InitDone),
        Event::InitApply(DeserializeGuard(Ok(object))) => Some(Event::InitApply(object)),
        Event::Apply(DeserializeGuard(Ok(object))) => Some(Event::Apply(object)),
        Event::Delete(DeserializeGuard(Ok(object))) => Some(Event::Delete(object)),
        Event::InitApply(DeserializeGuard(Err(invalid))) => {
            reject(invalid);
            None
        }
        Event::Apply(DeserializeGuard(Err(invalid))) => known(&reject(invalid)),
        Event::Delete(DeserializeGuard(Err(invalid))) => known(&invalid),
    }
}

type Versions<K> = BTreeMap<(Option<String>, String), Arc<K>>;

fn versions<K: Resource<DynamicType = ()> + Clone + 'static>(store: &Store<K>) -> Versions<K> {
    store
        .state()
        .into_iter()
        .map(|object| ((object.namespace(), object.name_any()), object))
        .collect()
}

/// What a new list says has happened while nobody watched.
fn difference<K>(mut before: Versions<K>, store: &Store<K>) -> Vec<Change<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let mut changes = Vec::new();
    for (key, object) in versions(store) {
        match before.remove(&key) {
            Some(old) if old.resource_version() == object.resource_version() => {}
            Some(old) if old.uid() != object.uid() => {
                changes.push(Change::Deleted(old));
                changes.push(Change::Applied(object));
            }
            _ => changes.push(Change::Applied(object)),
        }
    }
    changes.extend(before.into_values().map(Change::Deleted));
    changes
}

#[cfg(test)]
mod tests;
