//! What does the target do? It fetches what is offered, in a task of its own for each Migration, and tells how far it is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::Stream;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use serde_json::json;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use virga_crds::{Bytes, Incoming, IncomingState, Migration, MigrationPhase};
use virga_runtime::{
    class::{Class, Classify},
    reconcile::{Done, Reconcile},
    wake::Wakeups,
};
use virga_transfer::client::{Phase, Progress};

use super::{
    landing::is_ours,
    name::Name,
    receive::{Error as NotReceived, receive},
};
use crate::{host::Host, removal::remove_directory};

/// How often it is told how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Progress is told in steps of so many percent.
const STEP: i32 = 10;
/// The pause after a try that failed.
const PAUSE: Duration = Duration::from_secs(2);
/// How many tries in a row may bring nothing before it is given up: while it lasts the guest is off.
const TRIES: u32 = 3;
/// The same once the source was reached: its agent may be away for an upgrade, and what came is not thrown away for that.
const PATIENT: u32 = 40;

/// Why it could not be told, or what came could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be told.
    #[error(transparent)]
    Tell(#[from] virga_runtime::apply::Error),
    /// What came could not be removed.
    #[error("removing what came of a guest")]
    Remove(#[from] crate::effect::Error),
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::Tell(error) if error.is_not_found() => Class::Waiting,
            Self::Tell(error) => error.class(),
            Self::Remove(_) => Class::Transient,
        }
    }
}

/// The loop over the Migrations that come to this host.
#[derive(Clone)]
pub struct IncomingLoop {
    host: Host,
    tasks: Arc<Mutex<HashMap<String, Task>>>,
    woken: Arc<Wakeups<ObjectRef<Migration>>>,
    stop: CancellationToken,
}

/// A fetch under way, or what came of it.
struct Task {
    cancel: CancellationToken,
    progress: watch::Receiver<Progress>,
    /// Why it was given up.
    rejected: Option<String>,
    /// Why the last try failed.
    message: Option<String>,
}

impl IncomingLoop {
    /// The loop on this host. Fetches end when `stop` is cancelled; the next process goes on with them.
    pub fn new(host: Host, stop: CancellationToken) -> Self {
        Self {
            host,
            tasks: Arc::default(),
            woken: Arc::default(),
            stop,
        }
    }

    /// The Migrations whose fetch has ended.
    pub fn ended(&self) -> impl Stream<Item = ObjectRef<Migration>> + Send + use<> {
        self.woken.picked(Some)
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, HashMap<String, Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reconcile for IncomingLoop {
    type Kind = Migration;
    type Error = Error;

    fn name(&self) -> &'static str {
        "incoming"
    }

    async fn reconcile(&self, migration: Arc<Migration>) -> Result<Done, Error> {
        let Some(name) = Name::of(&migration) else {
            return Ok(Done::waiting());
        };
        let uid = migration.uid().unwrap_or_default();
        let status = migration.status.clone().unwrap_or_default();
        let directory = name.directory(&self.host.layout);
        let told = match status.phase.unwrap_or_default() {
            MigrationPhase::Pending | MigrationPhase::Preparing => return Ok(Done::waiting()),
            _ if self.has_landed(&name) => incoming(IncomingState::Landed, Some(100)),
            MigrationPhase::Completed => return Ok(Done::unchanged()),
            MigrationPhase::Failed => {
                if let Some(task) = self.tasks().remove(&uid) {
                    task.cancel.cancel();
                }
                // The source has taken it back, or never gave it: what is here is nobody's, verified or not.
                remove_directory(&directory).await?;
                self.host.images.abandon_peers(&uid).await;
                match status.incoming {
                    None => return Ok(Done::unchanged()),
                    Some(_) => incoming(IncomingState::Removed, None),
                }
            }
            _ if is_ours(&directory) => incoming(IncomingState::Owned, Some(100)),
            phase => {
                if phase != MigrationPhase::Aborting || directory.exists() {
                    self.ensure(&migration, &name, &uid);
                }
                match self.tasks().get(&uid) {
                    Some(task) => task.told(),
                    None => return Ok(Done::waiting()),
                }
            }
        };
        let goes_on = told.state == IncomingState::Receiving;
        let told = json!({ "incoming": told });
        let written = self.host.writer.apply_status(migration.as_ref(), &told).await?;
        let done = Done::changed_if(written.is_some());
        Ok(if goes_on { done.again_in(TELL_EVERY) } else { done })
    }
}

fn incoming(state: IncomingState, progress: Option<i32>) -> Incoming {
    Incoming {
        state,
        progress,
        transferred: None,
        message: None,
    }
}

impl Task {
    fn told(&self) -> Incoming {
        if let Some(why) = &self.rejected {
            return Incoming {
                message: Some(why.clone()),
                ..incoming(IncomingState::Rejected, None)
            };
        }
        let progress = *self.progress.borrow();
        let percent = match progress.phase {
            Phase::Queued => 0,
            Phase::Transferring => i32::from(progress.percent()) / STEP * STEP,
            Phase::Verifying | Phase::Received => 100,
        };
        Incoming {
            transferred: (progress.phase == Phase::Transferring && percent > 0)
                .then(|| Bytes(progress.total / 100 * u64::from(percent.unsigned_abs()))),
            message: self.message.clone(),
            ..incoming(IncomingState::Receiving, Some(percent))
        }
    }
}

impl IncomingLoop {
    /// Whether the Instance is bound here and has its disk.
    fn has_landed(&self, name: &Name) -> bool {
        let bound = self.host.stores.instance(&name.instance.to_string()).is_some();
        bound && self.host.layout.instance(name.instance).root_disk().exists()
    }

    /// Begins to fetch, unless that is under way or was given up.
    fn ensure(&self, migration: &Migration, name: &Name, uid: &str) {
        let mut tasks = self.tasks();
        if tasks.contains_key(uid) {
            return;
        }
        let (progress, seen) = watch::channel(Progress::default());
        let cancel = self.stop.child_token();
        let task = Task {
            cancel: cancel.clone(),
            progress: seen,
            rejected: None,
            message: None,
        };
        tasks.insert(uid.to_owned(), task);
        drop(tasks);
        let (all, name, uid) = (self.clone(), name.clone(), uid.to_owned());
        let reference = ObjectRef::from_obj(migration);
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = all.fetch(&name, &uid, &progress) => {}
            }
            all.woken.send(reference);
        });
    }

    async fn fetch(&self, name: &Name, uid: &str, progress: &watch::Sender<Progress>) {
        let mut failures = 0;
        let mut came = 0;
        loop {
            // Who offers what may be told anew by now.
            let newest = self
                .host
                .stores
                .migrations_in
                .find(|migration| migration.uid().as_deref() == Some(uid));
            let Some(newest) = newest else {
                self.tasks().remove(uid);
                return;
            };
            let tried = self
                .host
                .carry_out("ReceiveGuest", Box::pin(receive(&self.host, &newest, name, progress)))
                .await;
            let why = match tried {
                Ok(()) => {
                    self.tasks().remove(uid);
                    return;
                }
                Err(NotReceived::Rejected(why)) => {
                    self.reject(uid, why);
                    return;
                }
                Err(NotReceived::NotNow(why)) => why,
            };
            tracing::warn!(uid, error = why, "receiving a guest");
            let verified = progress.borrow().phase == Phase::Received;
            let done = progress.borrow().done;
            failures = if done > came { 1 } else { failures + 1 };
            came = came.max(done);
            // What is verified may be the only one.
            let reached = name.directory(&self.host.layout).join("base").exists();
            let enough = if reached { PATIENT } else { TRIES };
            if failures >= enough && !verified && !self.may_be_the_only_one(name).await {
                self.reject(uid, why);
                return;
            }
            if let Some(task) = self.tasks().get_mut(uid) {
                task.message = Some(cut(why));
            }
            sleep(PAUSE).await;
        }
    }

    async fn may_be_the_only_one(&self, name: &Name) -> bool {
        let root = name.directory(&self.host.layout).join("root.qcow2");
        let Some(client) = self.host.transfers.client() else {
            // Without a look nothing is given up.
            return root.exists();
        };
        let state = client.state(&root).await;
        !matches!(state, Ok(None | Some(virga_transfer::handover::Receiver::Partial)))
    }

    fn reject(&self, uid: &str, why: String) {
        if let Some(task) = self.tasks().get_mut(uid) {
            task.rejected = Some(cut(why));
        }
    }
}

/// As long as the schema takes.
fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(1024));
    message
}
