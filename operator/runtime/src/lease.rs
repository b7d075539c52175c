//! Who leads? At most one process, by a Lease, under rules that hold when the API server is slow or gone.
//!
//! - Every write carries the `resourceVersion` that was read; 409 means that somebody else was faster.
//! - A lease has expired when *this* process has seen no change of it for its duration, by its own monotonic clock. The
//!   times in the lease are for people.
//! - A leader stops at `duration − grace` after it began to send its last successful renewal, whether or not the API
//!   server can be reached.
//! - Leadership is lost once: the process should end, and a new one stand again. Caches may be kept warm by processes
//!   that do not lead; writes may not.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{class, clock::Clock};

/// Which lease, and how patiently.
#[derive(Debug, Clone)]
pub struct Options {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who we are. It must differ between any two processes that ever run: a pod's name and a random part.
    pub identity: String,
    /// How long a lease lasts without renewal.
    pub duration: Duration,
    /// How long before the lease's end a leader that cannot renew stops to lead.
    pub grace: Duration,
    /// How often a leader renews, and a candidate looks. A leader whose renewal failed tries again after a quarter of it.
    pub interval: Duration,
    /// How long one call may take.
    pub call_timeout: Duration,
}

impl Options {
    /// 15 s of lease with 5 s of grace, looked at every 2 s.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            duration: Duration::from_secs(15),
            grace: Duration::from_secs(5),
            interval: Duration::from_secs(2),
            call_timeout: Duration::from_secs(3),
        }
    }
}

/// How a candidacy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop, and gave the lease back if it held it.
    Stopped,
    /// It led and does not any more. End the process.
    Lost,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    leads_until: Option<Instant>,
    led: bool,
    holder: Option<String>,
    transitions: i32,
    over: bool,
}

/// Whether this process leads, for all who need to know. Clones see the same.
#[derive(Clone)]
pub struct Leadership {
    seen: watch::Receiver<Seen>,
    clock: Arc<dyn Clock>,
}

impl Leadership {
    /// Of who stands alone: a process without rivals, or a test.
    pub fn granted(clock: Arc<dyn Clock>, holder: impl Into<String>) -> Self {
        // Longer than any process lives, and no overflow.
        let long = Duration::from_hours(24 * 365 * 30);
        let (_, seen) = watch::channel(Seen {
            leads_until: Some(clock.instant() + long),
            led: true,
            holder: Some(holder.into()),
            ..Seen::default()
        });
        Self { seen, clock }
    }

    /// Of who never leads.
    pub fn refused(clock: Arc<dyn Clock>) -> Self {
        let (_, seen) = watch::channel(Seen::default());
        Self { seen, clock }
    }

    /// Whether this process leads at this very moment. Ask before each write that only a leader may do.
    pub fn is_leader(&self) -> bool {
        self.seen
            .borrow()
            .leads_until
            .is_some_and(|until| self.clock.instant() < until)
    }

    /// Ends when this process leads. Never ends if it never does.
    pub async fn acquired(&self) {
        let mut seen = self.seen.clone();
        if seen.wait_for(|seen| seen.leads_until.is_some()).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends when this process has led and does not any more, or when its candidacy is over.
    pub async fn lost(&self) {
        let mut seen = self.seen.clone();
        // An error means that the candidacy's task is gone, which is a loss as well.
        let _ = seen
            .wait_for(|seen| seen.over || (seen.led && seen.leads_until.is_none()))
            .await;
    }

    /// Who holds the lease, as far as this process has seen.
    pub fn holder(&self) -> Option<String> {
        self.seen.borrow().holder.clone()
    }

    /// How often the lease has changed hands, as far as this process has seen.
    pub fn transitions(&self) -> i32 {
        self.seen.borrow().transitions
    }
}

/// Makes a candidate. Nothing happens until its [`Candidate::run`] is polled.
pub fn stand(client: Client, clock: Arc<dyn Clock>, options: Options) -> (Candidate, Leadership) {
    let (tx, seen) = watch::channel(Seen::default());
    let api = Api::namespaced(client, &options.namespace);
    let candidate = Candidate {
        api,
        clock: clock.clone(),
        options,
        seen: tx,
        observed: None,
    };
    (candidate, Leadership { seen, clock })
}

/// A process that wants to lead.
pub struct Candidate {
    api: Api<Lease>,
    clock: Arc<dyn Clock>,
    options: Options,
    seen: watch::Sender<Seen>,
    observed: Option<Observed>,
}

/// A version of the lease, and when this process first saw it.
#[derive(Debug)]
struct Observed {
    resource_version: Option<String>,
    since: Instant,
}

/// What one try to get or keep the lease came to.
enum Tried {
    /// It is ours until then.
    Held(Box<Lease>, Instant),
    /// It is somebody else's, for all we know.
    NotOurs,
    /// Nobody can say: the call failed.
    Unknown(kube::Error),
}

impl Candidate {
    /// Stands, leads, and ends when leadership is lost or `stop` is cancelled, whichever is first.
    pub async fn run(mut self, stop: CancellationToken) -> Ended {
        let ended = match self.campaign(&stop).await {
            Some((lease, until)) => self.lead(lease, until, &stop).await,
            None => Ended::Stopped,
        };
        self.seen.send_modify(|seen| {
            seen.leads_until = None;
            seen.over = true;
        });
        ended
    }

    async fn campaign(&mut self, stop: &CancellationToken) -> Option<(Box<Lease>, Instant)> {
        loop {
            let limit = self.options.call_timeout;
            // Stopping in the middle of a try could leave a lease behind that nobody gives back: let it end.
            match timeout(limit, self.attempt()).await {
                Ok(Tried::Held(lease, until)) if self.clock.instant() < until => {
                    self.note(&lease, Some(until));
                    tracing::info!(name = self.options.name, holder = self.options.identity, "leading");
                    return Some((lease, until));
                }
                Ok(Tried::Held(..) | Tried::NotOurs) => {}
                Ok(Tried::Unknown(error)) => {
                    tracing::warn!(name = self.options.name, error = class::chain(&error), "trying to lead");
                }
                Err(_) => tracing::warn!(name = self.options.name, "no answer while trying to lead"),
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = sleep(self.options.interval) => {}
            }
        }
    }

    async fn lead(&mut self, mut lease: Box<Lease>, mut until: Instant, stop: &CancellationToken) -> Ended {
        let mut next = self.clock.instant() + self.options.interval;
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.seen.send_modify(|seen| seen.leads_until = None);
                    self.release(*lease).await;
                    return Ended::Stopped;
                }
                () = tokio::time::sleep_until(until.min(next)) => {}
            }
            let limit = until.min(self.clock.instant() + self.options.call_timeout);
            let mut pause = self.options.interval;
            match timeout_at(limit, self.renew(&lease)).await {
                Ok(Tried::Held(renewed, end)) => {
                    self.note(&renewed, Some(end));
                    (lease, until) = (renewed, end);
                }
                Ok(Tried::NotOurs) => {
                    tracing::error!(name = self.options.name, "another process took the lease");
                    return Ended::Lost;
                }
                Ok(Tried::Unknown(error)) => {
                    pause /= 4;
                    tracing::warn!(
                        name = self.options.name,
                        error = class::chain(&error),
                        "renewing the lease"
                    );
                }
                Err(_) => {
                    pause /= 4;
                    tracing::warn!(name = self.options.name, "no answer while renewing the lease");
                }
            }
            let now = self.clock.instant();
            if now >= until {
                tracing::error!(name = self.options.name, "could not renew the lease in time");
                return Ended::Lost;
            }
            next = now + pause;
        }
    }

    /// Looks at the lease, and takes it if it is free.
    async fn attempt(&mut self) -> Tried {
        let found = match self.api.get_opt(&self.options.name).await {
            Ok(found) => found,
            Err(error) => return Tried::Unknown(error),
        };
        let Some(lease) = found else {
            let began = self.clock.instant();
            let created = self.api.create(&PostParams::default(), &self.fresh()).await;
            return self.outcome(began, created);
        };
        if self.is_free(&lease) {
            self.write(&lease).await
        } else {
            Tried::NotOurs
        }
    }

    /// Whether the lease may be taken: nobody holds it, we do (an answer to our write got lost), or it has not changed
    /// for its duration under this process's own eyes.
    fn is_free(&mut self, lease: &Lease) -> bool {
        let now = self.clock.instant();
        let version = lease.metadata.resource_version.clone();
        let since = match &self.observed {
            Some(observed) if observed.resource_version == version => observed.since,
            _ => now,
        };
        self.observed = Some(Observed {
            resource_version: version,
            since,
        });
        self.note(lease, None);

        let spec = lease.spec.as_ref();
        let holder = spec
            .and_then(|spec| spec.holder_identity.as_deref())
            .unwrap_or_default();
        let seconds = spec
            .and_then(|spec| spec.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok());
        // A lease that promises nonsense binds us no longer than our own would, times four.
        let duration = seconds
            .map_or(self.options.duration, Duration::from_secs)
            .min(self.options.duration * 4);
        holder.is_empty() || holder == self.options.identity || now.duration_since(since) >= duration
    }

    async fn renew(&self, lease: &Lease) -> Tried {
        match self.write(lease).await {
            Tried::NotOurs => {}
            other => return other,
        }
        // Somebody wrote it. That may have been us: a write can commit although its answer was an error.
        match self.api.get_opt(&self.options.name).await {
            Ok(Some(now)) if holder(&now) == Some(&self.options.identity) => self.write(&now).await,
            Ok(_) => Tried::NotOurs,
            Err(error) => Tried::Unknown(error),
        }
    }

    /// Writes the lease as ours over the version that was read.
    async fn write(&self, over: &Lease) -> Tried {
        let now = MicroTime(micros(self.clock.now()));
        let mut lease = over.clone();
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.options.identity) {
            spec.holder_identity = Some(self.options.identity.clone());
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.renew_time = Some(now);
        spec.lease_duration_seconds = Some(seconds(self.options.duration));
        let began = self.clock.instant();
        let written = self
            .api
            .replace(&self.options.name, &PostParams::default(), &lease)
            .await;
        self.outcome(began, written)
    }

    fn outcome(&self, began: Instant, written: kube::Result<Lease>) -> Tried {
        match written {
            // Counted from before the write was sent: whoever sees it later waits longer than we lead.
            Ok(lease) => {
                let led = self.options.duration.saturating_sub(self.options.grace);
                Tried::Held(Box::new(lease), began + led)
            }
            // 404: deleted since it was read; the next try creates it.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Tried::NotOurs,
            Err(error) => Tried::Unknown(error),
        }
    }

    fn fresh(&self) -> Lease {
        let now = MicroTime(micros(self.clock.now()));
        Lease {
            metadata: ObjectMeta {
                namespace: Some(self.options.namespace.clone()),
                name: Some(self.options.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.options.identity.clone()),
                lease_duration_seconds: Some(seconds(self.options.duration)),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Gives the lease back, so that a roll-out does not wait for its end.
    async fn release(&self, mut lease: Lease) {
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(micros(self.clock.now())));
        let params = PostParams::default();
        let put = self.api.replace(&self.options.name, &params, &lease);
        match timeout(self.options.call_timeout, put).await {
            Ok(Ok(_)) => tracing::info!(name = self.options.name, "gave the lease back"),
            Ok(Err(error)) => {
                tracing::warn!(
                    name = self.options.name,
                    error = class::chain(&error),
                    "giving the lease back"
                );
            }
            Err(_) => tracing::warn!(name = self.options.name, "no answer while giving the lease back"),
        }
    }

    fn note(&self, lease: &Lease, leads_until: Option<Instant>) {
        self.seen.send_modify(|seen| {
            seen.holder = holder(lease).filter(|holder| !holder.is_empty()).map(str::to_owned);
            seen.transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
            seen.leads_until = leads_until;
            seen.led |= leads_until.is_some();
        });
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX).max(1)
}

/// The API server keeps microseconds and refuses more digits.
pub(crate) fn micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}
