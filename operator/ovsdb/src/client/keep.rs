//! Which server is tried next, and when? Connects again for as long as the client lives.

use std::{
    collections::HashMap,
    error::Error as _,
    fmt::Write as _,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{broadcast, mpsc},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{
    Command, Error, Options, Shared, State,
    session::{self, IN_FLIGHT, Opened, Pending, Session},
};
use crate::{
    cluster::Judge,
    monitor::Update,
    remote::Remote,
    replica::{self, Replica, RowChange},
};

pub(super) struct Keeper {
    pub options: Options,
    pub shared: Arc<Shared>,
    pub changes: broadcast::Sender<Arc<[RowChange]>>,
    pub commands: mpsc::Receiver<Command>,
    pub stop: CancellationToken,
    pub judge: Judge,
    /// The last transaction that is in the replica; nil if the replica is to be filled anew.
    pub last: Uuid,
    pub epoch: u64,
}

impl Keeper {
    pub async fn run(mut self) {
        let mut remotes = self.options.remotes.clone();
        // Not all clients should begin with the same member.
        fastrand::shuffle(&mut remotes);
        let mut pause = self.options.shortest_pause;
        let mut said: HashMap<String, String> = HashMap::new();
        'rounds: loop {
            if remotes.is_empty() {
                self.down("", "no remotes are configured", &mut said);
            }
            for remote in &remotes {
                let (begun, epoch) = (Instant::now(), self.epoch);
                match self.hold(remote).await {
                    Ok(()) => break 'rounds,
                    Err(error) => {
                        if error.spoils_replica() {
                            self.last = Uuid::nil();
                        }
                        if self.epoch > epoch {
                            // After some success the same failure is news again.
                            said.clear();
                        }
                        self.down(&remote.to_string(), &with_causes(&error), &mut said);
                    }
                }
                // A server that cuts everyone off at once must not make us hurry.
                if begun.elapsed() > self.options.longest_pause {
                    pause = self.options.shortest_pause;
                }
            }
            if !self.wait(pause).await {
                break;
            }
            pause = (pause * 2).min(self.options.longest_pause);
        }
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            let _ = command.answer.send(Err(Error::Stopped));
        }
        self.shared.state.send_replace(State::Stopped);
    }

    /// Tells of a failure, in the log once for each remote.
    fn down(&self, remote: &str, error: &str, said: &mut HashMap<String, String>) {
        if said.get(remote).is_some_and(|said| said == error) {
            debug!(remote, error, "still no connection to the database");
        } else {
            warn!(remote, error, "no connection to the database");
            said.insert(remote.to_owned(), error.to_owned());
        }
        let error = format!("{remote}: {error}").into();
        self.shared.state.send_replace(State::Down { error });
    }

    /// Waits for half of `pause` to all of it, and refuses what is asked meanwhile. False if it is time to end.
    async fn wait(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = sleep_until(until) => return true,
                command = self.commands.recv() => match command {
                    Some(command) => {
                        let _ = command.answer.send(Err(self.not_connected()));
                    }
                    None => return false,
                },
            }
        }
    }

    fn not_connected(&self) -> Error {
        match &*self.shared.state.borrow() {
            State::Down { error } => Error::NotConnected(Arc::clone(error)),
            _ => Error::NotConnected("the connection was just lost".into()),
        }
    }

    /// Holds one connection from its beginning to its end. That is all well if the client is shut down.
    async fn hold(&mut self, remote: &Remote) -> Result<(), session::Error> {
        let before = Arc::clone(
            self.shared
                .replica
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .schema(),
        );
        let opening = Session::open(&self.options, &mut self.judge, remote, &before, self.last);
        let (mut session, opened) = tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            opened = opening => opened?,
        };
        let sync = Sync {
            shared: &self.shared,
            changes: &self.changes,
            options: &self.options,
        };
        self.epoch += 1;
        self.last = opened.initial.last;
        let resumed = opened.initial.resumed;
        let rows = sync.begin(opened, self.epoch)?;
        info!(%remote, epoch = self.epoch, resumed, rows, "connected to the database");
        self.shared.state.send_replace(State::Synced {
            remote: remote.clone(),
            epoch: self.epoch,
            resumed,
        });

        let ended = loop {
            tokio::select! {
                () = self.stop.cancelled() => break Ok(()),
                () = sleep_until(session.next_wake()) => {
                    if let Err(error) = session.mind_time() {
                        break Err(error);
                    }
                }
                incoming = session.wire.receive() => {
                    let news = match incoming.map_err(session::Error::from).and_then(|incoming| session.take(incoming)) {
                        Ok(Some(news)) => news,
                        Ok(None) => continue,
                        Err(error) => break Err(error),
                    };
                    if let Err(error) = sync.follow(news.updates) {
                        break Err(error.into());
                    }
                    self.last = news.last.unwrap_or_default();
                }
                command = self.commands.recv(), if session.pending.len() < IN_FLIGHT => {
                    let Some(command) = command else {
                        break Ok(());
                    };
                    if let Err(error) = send(&mut session, command, self.epoch) {
                        break Err(error);
                    }
                }
            }
        };
        let said = match &ended {
            Ok(()) => "the client was shut down".into(),
            Err(error) => Arc::<str>::from(with_causes(error)),
        };
        // First the state: who is told that it is uncertain must not take the replica for up to date.
        self.shared.state.send_replace(State::Down {
            error: Arc::clone(&said),
        });
        for (_, pending) in session.pending.drain() {
            let _ = pending.answer.send(Err(Error::Uncertain(Arc::clone(&said))));
        }
        if ended.is_ok() {
            session.wire.close().await;
        }
        ended
    }
}

fn send(session: &mut Session<'_>, command: Command, epoch: u64) -> Result<(), session::Error> {
    if let Some(wanted) = command.epoch.filter(|wanted| *wanted != epoch) {
        let stale = Error::Stale { wanted, current: epoch };
        let _ = command.answer.send(Err(stale));
        return Ok(());
    }
    // Its time may have passed while it waited; its caller may be gone.
    if command.deadline <= Instant::now() {
        let _ = command.answer.send(Err(Error::Busy));
        return Ok(());
    }
    match session.wire.send("transact", &command.params) {
        Ok(id) => {
            let Command { deadline, answer, .. } = command;
            session.pending.insert(id, Pending { deadline, answer });
            Ok(())
        }
        Err(error) => {
            let _ = command.answer.send(Err(Error::NotConnected(error.to_string().into())));
            Err(error.into())
        }
    }
}

/// Who writes the replica and tells of it.
struct Sync<'a> {
    shared: &'a Shared,
    changes: &'a broadcast::Sender<Arc<[RowChange]>>,
    options: &'a Options,
}

impl Sync<'_> {
    /// Takes the first answer: all rows, or what has changed since the last connection. Says how many rows there are.
    fn begin(&self, opened: Opened, epoch: u64) -> Result<usize, replica::Error> {
        let Opened { schema, initial } = opened;
        if initial.resumed {
            let mut replica = self.write();
            let changes = replica.apply(initial.updates)?;
            replica.set_epoch(epoch);
            self.tell(changes);
            return Ok(replica.len());
        }
        // Built beside the old one, which stays readable meanwhile: of many rows this takes a moment.
        let mut newer = {
            let old = self.shared.replica.read().unwrap_or_else(PoisonError::into_inner);
            old.successor(schema, &self.options.tables)
        };
        newer.apply(initial.updates)?;
        newer.set_epoch(epoch);
        let mut replica = self.write();
        let changes = replica.difference(&mut newer);
        let rows = newer.len();
        *replica = newer;
        self.tell(changes);
        Ok(rows)
    }

    fn follow(&self, updates: Vec<Update>) -> Result<(), replica::Error> {
        let changes = self.write().apply(updates)?;
        self.tell(changes);
        Ok(())
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Replica> {
        self.shared.replica.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, changes: Vec<RowChange>) {
        if !changes.is_empty() {
            // Fails when nobody listens.
            let _ = self.changes.send(changes.into());
        }
    }
}

/// An error and what caused it, on one line: here is where it is printed.
fn with_causes(error: &session::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
