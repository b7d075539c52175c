//! Who keeps the replica up to date, and who writes? One task that holds one connection at a time, and this handle to it.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use serde_json::{Value as Json, json};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    cluster::Judge,
    frame::Limits,
    operation::Operation,
    outcome::{self, Done, Refused},
    remote::Remote,
    replica::{Replica, RowChange},
    table::TableSpec,
    tls::TlsFiles,
};

mod keep;
mod session;

pub use session::Error as SessionError;

/// Transactions that wait to be sent.
const QUEUE: usize = 32;
/// Batches of changes that a slow reader may be behind.
const CHANGES: usize = 256;

/// What to connect to, and how patiently.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the database is served: one server, or the members of a cluster. Which comes first is left to chance.
    pub remotes: Vec<Remote>,
    /// Its name.
    pub database: String,
    /// What is watched.
    pub tables: Vec<&'static TableSpec>,
    /// Certificates, for `ssl:` remotes.
    pub tls: Option<TlsFiles>,
    /// Whether a cluster is talked to through its leader only. Who writes wants that: another member's copy may be old.
    pub leader_only: bool,
    /// The one cluster whose members will do, if that should be insisted on.
    pub cluster: Option<Uuid>,
    /// How long opening a connection may take, TLS included.
    pub connect_timeout: Duration,
    /// How long an answer may take. A server that takes longer is left, since nobody knows what it will still do.
    pub request_timeout: Duration,
    /// After how long a silent server is asked for a sign of life. After twice that it is left.
    pub probe_interval: Duration,
    /// The first pause after all remotes were tried in vain; then twice that, and so on.
    pub shortest_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// What the server may send in one message.
    pub limits: Limits,
}

impl Options {
    /// Patient enough for a cluster that elects a leader; of a cluster, the leader only.
    pub fn new(remotes: Vec<Remote>, database: impl Into<String>, tables: Vec<&'static TableSpec>) -> Self {
        Self {
            remotes,
            database: database.into(),
            tables,
            tls: None,
            leader_only: true,
            cluster: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            probe_interval: Duration::from_secs(10),
            shortest_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(8),
            limits: Limits::default(),
        }
    }
}

/// Why a transaction was not done, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection whose replica is up to date. Nothing was sent.
    #[error("there is no connection to the database: {0}")]
    NotConnected(Arc<str>),
    /// The replica is another one than the caller looked at. Nothing was sent: look again.
    #[error("the transaction is for epoch {wanted} of the replica, and this is epoch {current}")]
    Stale {
        /// The caller's.
        wanted: u64,
        /// The present one.
        current: u64,
    },
    /// Too many transactions wait. Nothing was sent.
    #[error("too many transactions wait for the database")]
    Busy,
    /// The server refused. Nothing was done.
    #[error("writing to the database")]
    Refused(#[source] Refused),
    /// It was sent, and no answer came. Whether it was done can be seen in the replica once that is up to date again.
    #[error("the database did not answer, and whether it has written is not known yet: {0}")]
    Uncertain(Arc<str>),
    /// The client was shut down.
    #[error("the client of the database was shut down")]
    Stopped,
}

/// How the connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There is none yet, or none any more. The replica is as it was.
    Down {
        /// Why, for a condition or a log.
        error: Arc<str>,
    },
    /// The replica is up to date.
    Synced {
        /// With which server.
        remote: Remote,
        /// See [`Replica::epoch`].
        epoch: u64,
        /// Whether only what had changed was sent, and not everything.
        resumed: bool,
    },
    /// It was shut down.
    Stopped,
}

/// What a [`Changes`] tells.
#[derive(Debug, Clone)]
pub enum News {
    /// Rows have changed, in one transaction or while there was no connection.
    Rows(Arc<[RowChange]>),
    /// The reader was too slow, and this many batches are lost: look at the replica.
    Missed(u64),
}

/// The stream of changes since it was asked for.
#[derive(Debug)]
pub struct Changes(broadcast::Receiver<Arc<[RowChange]>>);

impl Changes {
    /// The next one; `None` after the client was shut down. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<News> {
        match self.0.recv().await {
            Ok(rows) => Some(News::Rows(rows)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(News::Missed(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

struct Shared {
    replica: RwLock<Replica>,
    state: watch::Sender<State>,
    changes: broadcast::WeakSender<Arc<[RowChange]>>,
}

struct Command {
    epoch: Option<u64>,
    params: Json,
    deadline: Instant,
    answer: oneshot::Sender<Result<Result<Json, Json>, Error>>,
}

/// A database: its replica, and the way to write to it. Clones share one connection, which ends with the last of them.
#[derive(Clone)]
pub struct Client {
    database: Arc<str>,
    request_timeout: Duration,
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: TaskTracker,
}

impl Client {
    /// Begins to connect, and to keep connected. Needs a running tokio.
    pub fn start(options: Options) -> Self {
        let (commands, receiver) = mpsc::channel(QUEUE);
        let (changes, _) = broadcast::channel(CHANGES);
        let not_yet = State::Down {
            error: "not connected yet".into(),
        };
        let shared = Arc::new(Shared {
            replica: RwLock::default(),
            state: watch::Sender::new(not_yet),
            changes: changes.downgrade(),
        });
        let client = Self {
            database: options.database.as_str().into(),
            request_timeout: options.request_timeout,
            commands,
            shared: Arc::clone(&shared),
            stop: CancellationToken::new(),
            task: TaskTracker::new(),
        };
        let judge = Judge::new(options.leader_only, options.cluster);
        let keeper = keep::Keeper {
            options,
            shared,
            changes,
            commands: receiver,
            stop: client.stop.clone(),
            judge,
            last: Uuid::nil(),
            epoch: 0,
        };
        client.task.spawn(keeper.run());
        client.task.close();
        client
    }

    /// Looks at the replica. It does not change meanwhile, so be quick; rows may be kept.
    pub fn read<T>(&self, look: impl FnOnce(&Replica) -> T) -> T {
        look(&self.shared.replica.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How the connection is, and each change of that.
    pub fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// Waits until the replica is up to date, and says its epoch.
    pub async fn synced(&self) -> Result<u64, Error> {
        let mut state = self.state();
        let settled = |state: &State| !matches!(state, State::Down { .. });
        match state.wait_for(settled).await.as_deref() {
            Ok(State::Synced { epoch, .. }) => Ok(*epoch),
            _ => Err(Error::Stopped),
        }
    }

    /// All changes from now on.
    pub fn changes(&self) -> Changes {
        match self.shared.changes.upgrade() {
            Some(sender) => Changes(sender.subscribe()),
            // It was shut down: a stream that has ended.
            None => Changes(broadcast::channel(1).1),
        }
    }

    /// Does all of the operations or none. When it returns, the replica has the changes.
    pub async fn transact(&self, operations: &[Operation]) -> Result<Vec<Done>, Error> {
        self.send(None, operations).await
    }

    /// The same, but only while the replica is the one that the operations were concluded from: between two epochs
    /// anything may have happened, also that an earlier transaction was done after all.
    pub async fn transact_in(&self, epoch: u64, operations: &[Operation]) -> Result<Vec<Done>, Error> {
        self.send(Some(epoch), operations).await
    }

    async fn send(&self, epoch: Option<u64>, operations: &[Operation]) -> Result<Vec<Done>, Error> {
        match &*self.shared.state.borrow() {
            State::Synced { .. } => {}
            State::Down { error } => return Err(Error::NotConnected(Arc::clone(error))),
            State::Stopped => return Err(Error::Stopped),
        }
        let mut params = vec![json!(&*self.database)];
        params.extend(operations.iter().map(Operation::to_json));
        let (answer, answered) = oneshot::channel();
        let deadline = Instant::now() + self.request_timeout;
        let command = Command {
            epoch,
            params: Json::Array(params),
            deadline,
            answer,
        };
        match timeout_at(deadline, self.commands.send(command)).await {
            Err(_) => return Err(Error::Busy),
            Ok(Err(_)) => return Err(Error::Stopped),
            Ok(Ok(())) => {}
        }
        // The keeper minds the deadline and says what became of the connection. This one is for a keeper that is busy.
        let reply = match timeout_at(deadline + self.request_timeout, answered).await {
            Err(_) => return Err(Error::Uncertain("the client is too busy to tell".into())),
            Ok(Err(_)) => return Err(Error::Uncertain("the client has ended".into())),
            Ok(Ok(reply)) => reply?,
        };
        outcome::read(operations, reply.as_ref()).map_err(|error| match error {
            outcome::Error::Refused(refused) => Error::Refused(refused),
            malformed @ outcome::Error::Malformed { .. } => Error::Uncertain(malformed.to_string().into()),
        })
    }

    /// Ends the connection in order, and waits until that is done. Transactions without an answer fail.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.task.wait().await;
    }
}
