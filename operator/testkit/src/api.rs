//! The server as a test holds it.

use std::{
    collections::HashMap,
    future::Future,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::Response;
use kube::{Client, CustomResourceExt, Resource, client::Body as ClientBody};
use serde_json::Value;
use tokio::sync::watch;
use tower::{Service, service_fn};

use crate::{admit::Hook, clock::FakeClock, fault::Fault, resource::Served, respond::Body, serve::serve, store::State};

pub(crate) struct Shared {
    pub state: Mutex<State>,
    pub changes: watch::Sender<u64>,
    pub hooks: Mutex<HashMap<String, Vec<Hook>>>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the watches and whoever waits for a condition.
    pub(crate) fn touch(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

/// An in-process Kubernetes API server. Clones are the same server. Make it inside a tokio runtime.
#[derive(Clone)]
pub struct FakeApi {
    pub(crate) shared: Arc<Shared>,
    clock: FakeClock,
}

impl Default for FakeApi {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeApi {
    /// A server with the kinds of Kubernetes that Virga uses, and no objects.
    pub fn new() -> Self {
        let clock = FakeClock::default();
        let shared = Shared {
            state: Mutex::new(State::new(clock.clone())),
            changes: watch::Sender::new(0),
            hooks: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            clock,
        }
    }

    /// Serves a custom resource by its definition: list types, defaults, pruning and doors are those of its schema.
    pub fn with_crd<K>(self) -> Self
    where
        K: Resource<DynamicType = (), Scope: 'static> + CustomResourceExt,
    {
        self.shared.lock().serve(Served::of_crd::<K>());
        self
    }

    /// Serves a kind by its type alone: with a status door, and every list atomic but `conditions`.
    pub fn with<K>(self) -> Self
    where
        K: Resource<DynamicType = (), Scope: 'static>,
    {
        self.shared.lock().serve(Served::of::<K>());
        self
    }

    /// Refuses objects in namespaces that are not there.
    pub fn with_strict_namespaces(self) -> Self {
        self.shared.lock().strict_namespaces = true;
        self
    }

    /// The server's wall clock.
    pub fn clock(&self) -> FakeClock {
        self.clock.clone()
    }

    /// A client of the user `test`.
    pub fn client(&self) -> Client {
        self.client_as("test")
    }

    /// A client of some user.
    pub fn client_as(&self, user: &str) -> Client {
        Client::new(self.service_as(user), "default")
    }

    /// The server as an HTTP service, to put middleware around.
    pub fn service(
        &self,
    ) -> impl Service<
        http::Request<ClientBody>,
        Response = Response<impl http_body::Body<Data = bytes::Bytes, Error = io::Error> + Send + 'static>,
        Error = io::Error,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static {
        self.service_as("test")
    }

    fn service_as(
        &self,
        user: &str,
    ) -> impl Service<http::Request<ClientBody>, Response = Response<Body>, Error = io::Error, Future: Send + 'static>
    + Clone
    + Send
    + 'static {
        let (shared, user) = (self.shared.clone(), user.to_owned());
        service_fn(move |request| serve(shared.clone(), user.clone(), request))
    }

    /// Asks a webhook about each write to objects of a kind (by its plural), in the order in which they were added. It
    /// gets an AdmissionReview with a request, and answers one with a response. Direct writes of the test do not ask.
    pub fn on_admission<F>(&self, plural: &str, hook: impl Fn(Value) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Value> + Send + 'static,
    {
        let hook: Hook = Arc::new(move |review| Box::pin(hook(review)));
        let mut hooks = self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        hooks.entry(plural.to_owned()).or_default().push(hook);
    }

    /// Makes a fault happen to the requests that match it. Faults are tried in the order in which they were injected.
    pub fn inject(&self, fault: Fault) {
        self.shared.lock().faults.push(fault);
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.shared.lock().faults.clear();
    }

    /// From now on watches hear nothing: every cache goes stale.
    pub fn hold_watches(&self) {
        self.shared.lock().held = true;
    }

    /// Watches hear again, first of all they missed.
    pub fn release_watches(&self) {
        self.shared.lock().held = false;
        self.shared.touch();
    }

    /// Ends every watch, as a network would.
    pub fn drop_watches(&self) {
        self.shared.lock().watch_epoch += 1;
        self.shared.touch();
    }

    /// Ends every watch with 410 Gone, and forgets history: watches and continued lists from before now get 410 too.
    pub fn expire_watches(&self) {
        {
            let mut state = self.shared.lock();
            state.expire_epoch += 1;
            // The next version: even what was current a moment ago is too old.
            state.version += 1;
            state.compacted = state.version;
        }
        self.shared.touch();
    }
}
