//! How does one kind's loop run? A kube controller tells who is to be looked at; everybody is, in the order in which they
//! came, with a bound on everything, and one place turns an error's class into a requeue, a metric and a log level.

mod line;

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt::Debug,
    future::Future,
    hash::Hash,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use kube::{
    Resource, ResourceExt,
    runtime::{
        controller::{self, Action, Controller},
        reflector::ObjectRef,
    },
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    class::{Class, Classify, chain},
    metrics::{Outcome, ReconcileMetrics},
};
use line::Line;

/// What one kind does with one object.
pub trait Reconcile: Send + Sync + 'static {
    /// The kind.
    type Kind: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static;
    /// Why it fails.
    type Error: Classify + Send + Sync + 'static;

    /// The controller's name in metrics and logs: the kind in lower case.
    fn name(&self) -> &'static str;

    /// Brings the world nearer to what the object asks for. Called again and again, never twice at once for one object.
    fn reconcile(&self, object: Arc<Self::Kind>) -> impl Future<Output = Result<Done, Self::Error>> + Send;
}

/// How a reconcile ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    outcome: Outcome,
    after: Option<Duration>,
}

impl Done {
    /// Something was written or changed.
    pub fn changed() -> Self {
        Self {
            outcome: Outcome::Changed,
            after: None,
        }
    }

    /// All was as it should be.
    pub fn unchanged() -> Self {
        Self {
            outcome: Outcome::Unchanged,
            after: None,
        }
    }

    /// [`Self::changed`] if something was, else [`Self::unchanged`].
    pub fn changed_if(changed: bool) -> Self {
        if changed { Self::changed() } else { Self::unchanged() }
    }

    /// Something that the object needs is not there yet; a watch will bring it back.
    pub fn waiting() -> Self {
        Self {
            outcome: Outcome::Waiting,
            after: None,
        }
    }

    /// Look again after this time, if that is sooner than the resync.
    pub fn again_in(mut self, after: Duration) -> Self {
        self.after = Some(self.after.map_or(after, |known| known.min(after)));
        self
    }
}

/// The bounds of a loop.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many objects are reconciled at once.
    pub concurrency: u16,
    /// How long an object that is as it should be, or that waits, is left alone: ±10 %.
    pub resync: Duration,
    /// How long one reconcile may take before it is cut.
    pub deadline: Duration,
    /// How long an object rests after each turn: its first change is answered at once, and what changes meanwhile has
    /// one turn afterwards.
    pub rest: Duration,
    /// The pause after the first failure. It doubles with each further one, up to `backoff_max`, and each pause is
    /// between half and all of that.
    pub backoff_min: Duration,
    /// The longest pause after a failure.
    pub backoff_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 8,
            resync: Duration::from_mins(10),
            deadline: Duration::from_mins(5),
            rest: Duration::ZERO,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_mins(5),
        }
    }
}

/// Why a reconcile did not end well.
#[derive(Debug, thiserror::Error)]
enum Failure<E: Classify + 'static> {
    #[error(transparent)]
    Reconcile(E),
    #[error("the reconcile was cut after {} s", .0.as_secs())]
    Deadline(Duration),
    #[error("the reconcile panicked: {0}")]
    Panic(String),
}

impl<E: Classify + 'static> Failure<E> {
    fn class(&self) -> Class {
        match self {
            Self::Reconcile(error) => error.class(),
            Self::Deadline(_) => Class::Transient,
            Self::Panic(_) => Class::Bug,
        }
    }
}

struct Loop<R: Reconcile> {
    reconciler: R,
    settings: Settings,
    metrics: ReconcileMetrics,
    /// Failures in a row, by object.
    failures: Mutex<HashMap<Key, u32>>,
}

type Key = (Option<String>, String);

/// Runs a kind's loop until `stop` is cancelled and what is under way has ended.
///
/// Build the controller from this process's watches:
/// `Controller::for_shared_stream(watch.applied(), watch.store()).watches_shared_stream(other.touched(), mapper)`, and
/// `.reconcile_on(stream)` for local events. Its concurrency and its way to stop are set here.
pub async fn run<R: Reconcile>(
    reconciler: R,
    controller: Controller<R::Kind>,
    settings: Settings,
    metrics: ReconcileMetrics,
    stop: CancellationToken,
) {
    let most = usize::from(settings.concurrency.max(1));
    let rest = settings.rest;
    let store = controller.store();
    let context = Loop {
        reconciler,
        settings,
        metrics,
        failures: Mutex::default(),
    };
    let name = context.reconciler.name();
    // What it calls for each object ends at once: it only tells whose turn it is.
    let asked = controller.graceful_shutdown_on(stop.clone().cancelled_owned()).run(
        |_, _| std::future::ready(Ok::<_, Infallible>(Action::await_change())),
        |_, never, _| match *never {},
        Arc::new(()),
    );
    let mut asked = std::pin::pin!(asked);
    let (mut line, mut under_way) = (Line::new(rest), FuturesUnordered::new());
    tracing::info!(controller = name, "running");
    loop {
        while under_way.len() < most
            && !stop.is_cancelled()
            && let Some(object) = line.next()
        {
            if let Some(current) = store.get(&object) {
                under_way.push(context.once(current).map(|again| (object, again)));
            } else {
                context.forget(&key_of(&object));
                line.ended(object, None);
            }
        }
        tokio::select! {
            Some((object, again)) = under_way.next() => line.ended(object, again),
            next = asked.next() => match next {
                Some(Ok((object, _))) => line.ask(object),
                Some(Err(controller::Error::ObjectNotFound(gone))) => {
                    context.forget(&(gone.namespace.clone(), gone.name.clone()));
                }
                Some(Err(error @ (controller::Error::QueueError(_) | controller::Error::RunnerError(_)))) => {
                    tracing::warn!(controller = name, error = chain(&error), "receiving changes");
                }
                Some(Err(controller::Error::ReconcilerFailed(never, _))) => match never {},
                None => break,
            },
            () = line.due() => {}
        }
    }
    while under_way.next().await.is_some() {}
    tracing::info!(controller = name, "stopped");
}

impl<R: Reconcile> Loop<R> {
    /// One reconcile, and when the next one is, if nobody asks for it sooner.
    async fn once(&self, object: Arc<R::Kind>) -> Option<Duration> {
        let controller = self.reconciler.name();
        let meta = object.meta();
        let span = tracing::info_span!(
            "reconcile",
            controller,
            kind = %R::Kind::kind(&()),
            namespace = meta.namespace,
            name = meta.name,
            uid = meta.uid,
            generation = meta.generation,
        );
        let key = key(object.as_ref());
        let began = Instant::now();
        let deadline = self.settings.deadline;
        let work = AssertUnwindSafe(self.reconciler.reconcile(object)).catch_unwind();
        let result = match timeout(deadline, work).instrument(span.clone()).await {
            Ok(Ok(result)) => result.map_err(Failure::Reconcile),
            Ok(Err(panic)) => Err(Failure::Panic(panic_text(panic.as_ref()))),
            Err(_) => Err(Failure::Deadline(deadline)),
        };
        let took = began.elapsed();
        match result {
            Ok(done) => {
                self.forget(&key);
                self.metrics.ended(controller, done.outcome, took);
                tracing::debug!(parent: &span, outcome = ?done.outcome, "reconciled");
                let resync = around(self.settings.resync);
                Some(done.after.map_or(resync, |after| after.min(resync)))
            }
            Err(failure) => {
                let class = failure.class();
                let outcome = if class == Class::Waiting {
                    Outcome::Waiting
                } else {
                    Outcome::Error
                };
                self.metrics.ended(controller, outcome, took);
                self.metrics.failed(controller, class);
                span.in_scope(|| report(class, &failure));
                self.after_failure(key, class)
            }
        }
    }

    fn after_failure(&self, key: Key, class: Class) -> Option<Duration> {
        match class {
            Class::Invalid => {
                self.forget(&key);
                None
            }
            Class::Waiting => {
                self.forget(&key);
                Some(around(self.settings.resync))
            }
            Class::Transient | Class::Bug => Some(self.back_off(key)),
        }
    }

    fn back_off(&self, key: Key) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key).or_insert(0);
        let pause = backoff(*count, self.settings.backoff_min, self.settings.backoff_max);
        *count = count.saturating_add(1);
        self.metrics.in_backoff(self.reconciler.name(), failures.len());
        pause
    }

    fn forget(&self, key: &Key) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.remove(key).is_some() {
            self.metrics.in_backoff(self.reconciler.name(), failures.len());
        }
    }
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> Key {
    (object.namespace(), object.name_any())
}

fn key_of<K: Resource<DynamicType = ()>>(object: &ObjectRef<K>) -> Key {
    (object.namespace.clone(), object.name.clone())
}

fn report<E: Classify + 'static>(class: Class, failure: &Failure<E>) {
    let (error, label) = (chain(failure), class.as_str());
    match class {
        Class::Waiting => tracing::debug!(class = label, error, "waiting"),
        Class::Invalid => tracing::info!(class = label, error, "cannot be done as asked"),
        Class::Transient => tracing::warn!(class = label, error, "failed, will try again"),
        Class::Bug => tracing::error!(class = label, error, "failed"),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

/// The pause after so many earlier failures in a row: between half and all of `min · 2^failures`, at most `max`.
fn backoff(failures: u32, min: Duration, max: Duration) -> Duration {
    let whole = min.saturating_mul(2_u32.saturating_pow(failures)).min(max);
    whole.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// A time within 10 % of this one, so that objects made together are not looked at together for ever.
fn around(period: Duration) -> Duration {
    period.mul_f64(0.9 + fastrand::f64() / 5.0)
}

/// An object's key for `reconcile_on` and mappers.
pub fn object_ref<K>(namespace: Option<&str>, name: &str) -> ObjectRef<K>
where
    K: Resource<DynamicType = ()>,
    K::DynamicType: Hash + Eq,
{
    let key = ObjectRef::new(name);
    match namespace {
        Some(namespace) => key.within(namespace),
        None => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_keep_their_jitter() {
        let (min, max) = (Duration::from_secs(1), Duration::from_mins(5));
        for (failures, whole) in [(0, 1), (1, 2), (4, 16), (8, 256), (9, 300), (40, 300), (u32::MAX, 300)] {
            let pause = backoff(failures, min, max);
            let whole = Duration::from_secs(whole);
            assert!(pause >= whole / 2 && pause <= whole, "{failures}: {pause:?}");
        }
    }

    #[test]
    fn resyncs_spread_by_a_tenth() {
        let period = Duration::from_mins(10);
        for _ in 0..100 {
            let resync = around(period);
            assert!(
                resync >= Duration::from_mins(9) && resync <= Duration::from_mins(11),
                "{resync:?}"
            );
        }
    }
}
