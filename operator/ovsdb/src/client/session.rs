//! One connection: is the server fit, what is its schema, all rows, and then the changes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::{Value as Json, json};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};
use uuid::Uuid;

use super::Options;
use crate::{
    cluster::{self, Judge, Standing, Unfit},
    monitor::{self, Initial, Method, News},
    remote::{self, Remote},
    replica,
    schema::{self, Schema},
    value::start_of,
    wire::{self, Incoming, Wire},
};

/// Transactions that were sent and not answered, at most.
pub(super) const IN_FLIGHT: usize = 32;

/// Why a connection ended, or was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No stream.
    #[error(transparent)]
    Remote(#[from] remote::Error),
    /// The stream broke.
    #[error(transparent)]
    Wire(#[from] wire::Error),
    /// No answer in time.
    #[error("{doing}: no answer within {} ms", .limit.as_millis())]
    TimedOut {
        /// What was waited for.
        doing: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The server answers with an error.
    #[error("{doing}: the server answers {answer}")]
    Answer {
        /// What was asked.
        doing: &'static str,
        /// The start of the answer.
        answer: String,
    },
    /// It is not the server to talk to.
    #[error("the server will not do: {0}")]
    Unfit(#[from] Unfit),
    /// The database is not one that we can work with.
    #[error(transparent)]
    Schema(#[from] schema::Error),
    /// What it tells can't be read.
    #[error(transparent)]
    Monitor(#[from] monitor::Error),
    /// What it tells does not fit what it told before.
    #[error(transparent)]
    Replica(#[from] replica::Error),
    /// The database was converted to another schema, or was taken away.
    #[error("the server does not tell of changes any more")]
    Cancelled,
}

impl Error {
    /// Whether what is in memory can't be trusted, so that the next connection must begin anew.
    pub(super) fn spoils_replica(&self) -> bool {
        matches!(self, Self::Monitor(_) | Self::Replica(_))
    }
}

pub(super) struct Pending {
    pub deadline: Instant,
    pub answer: oneshot::Sender<Result<Result<Json, Json>, super::Error>>,
}

/// A connection to a server that will do.
pub(super) struct Session<'a> {
    options: &'a Options,
    judge: &'a mut Judge,
    pub wire: Wire,
    pub pending: HashMap<u64, Pending>,
    /// The probe that was sent since the server was last heard of.
    probed: Option<Instant>,
    method: Method,
}

/// What the first minute of a connection gave.
pub(super) struct Opened {
    pub schema: Arc<Schema>,
    pub initial: Initial,
}

impl<'a> Session<'a> {
    /// Connects, and asks for all rows, or for what came after `last` if the schema is still `before`.
    pub async fn open(
        options: &'a Options,
        judge: &'a mut Judge,
        remote: &Remote,
        before: &Schema,
        last: Uuid,
    ) -> Result<(Self, Opened), Error> {
        let limit = options.connect_timeout;
        let stream = timeout(limit, remote.open(options.tls.as_ref()))
            .await
            .map_err(|_| Error::TimedOut {
                doing: "connecting",
                limit,
            })??;
        let mut session = Self {
            options,
            judge,
            wire: Wire::new(stream, options.limits),
            pending: HashMap::new(),
            probed: None,
            method: Method::Since,
        };
        session.examine_server().await?;
        let doing = "asking for the schema";
        let json = session.must(doing, "get_schema", json!([options.database])).await?;
        let schema = Schema::parse(&json)?;
        schema.check(&options.tables)?;
        let last = if schema == *before { last } else { Uuid::nil() };
        let mut initial = session.monitor(&schema, last).await?;
        // Only who has something can go on from there.
        initial.resumed &= !last.is_nil();
        let schema = Arc::new(schema);
        Ok((session, Opened { schema, initial }))
    }

    /// Asks the server for its standing, and to be told of changes of it instead of being cut off. Servers before
    /// OVS 2.9 know neither: they have no clusters.
    async fn examine_server(&mut self) -> Result<(), Error> {
        let doing = "asking which databases there are";
        let databases = self.must(doing, "list_dbs", json!([])).await?;
        let served = |name: &str| {
            databases
                .as_array()
                .is_some_and(|names| names.iter().any(|n| n == name))
        };
        if served(cluster::SERVER) {
            let doing = "asking to be told of changes of the server";
            let _ = self.call(doing, "set_db_change_aware", json!([true])).await?;
            let doing = "asking for the server's standing";
            let rows = self.must(doing, "monitor", cluster::monitor_params()).await?;
            self.judge_server(&rows, true)?;
        }
        if !served(&self.options.database) {
            return Err(Unfit::NotServed(self.options.database.clone()).into());
        }
        Ok(())
    }

    fn judge_server(&mut self, rows: &Json, required: bool) -> Result<(), Error> {
        match Standing::find(rows, &self.options.database) {
            Some(standing) => Ok(self.judge.judge(&standing?)?),
            None if required => Err(Unfit::NotServed(self.options.database.clone()).into()),
            None => Ok(()),
        }
    }

    async fn monitor(&mut self, schema: &Schema, last: Uuid) -> Result<Initial, Error> {
        let doing = "asking for all rows";
        loop {
            let method = self.method;
            let params = method.params(schema, &self.options.tables, last);
            match self.call(doing, method.request(), params).await? {
                Ok(reply) => return Ok(method.initial(&reply)?),
                Err(answer) => match method.older().filter(|_| is_unknown_method(&answer)) {
                    Some(older) => self.method = older,
                    None => return Err(refused(doing, &answer)),
                },
            }
        }
    }

    /// A request whose error ends the connection.
    async fn must(&mut self, doing: &'static str, method: &str, params: Json) -> Result<Json, Error> {
        self.call(doing, method, params)
            .await?
            .map_err(|answer| refused(doing, &answer))
    }

    /// A request before there are others: whatever else comes is news of the server.
    async fn call(&mut self, doing: &'static str, method: &str, params: Json) -> Result<Result<Json, Json>, Error> {
        let wanted = self.wire.send(method, &params)?;
        let limit = self.options.request_timeout;
        let deadline = Instant::now() + limit;
        loop {
            let incoming = timeout_at(deadline, self.wire.receive()).await;
            match incoming.map_err(|_| Error::TimedOut { doing, limit })?? {
                Incoming::Reply { id, outcome } if id == wanted => return Ok(outcome),
                Incoming::Reply { .. } => {}
                Incoming::Notification { method, params } => {
                    self.note(&method, &params)?;
                }
            }
        }
    }

    /// Takes a reply or a notification. What it tells of rows is for the caller.
    pub fn take(&mut self, incoming: Incoming) -> Result<Option<News>, Error> {
        match incoming {
            Incoming::Reply { id, outcome } => {
                // One that nobody waits for: a probe's.
                if let Some(pending) = self.pending.remove(&id) {
                    let _ = pending.answer.send(Ok(outcome));
                }
                Ok(None)
            }
            Incoming::Notification { method, params } => self.note(&method, &params),
        }
    }

    fn note(&mut self, method: &str, params: &Json) -> Result<Option<News>, Error> {
        if method == "monitor_canceled" {
            return Err(Error::Cancelled);
        }
        if let Some(rows) = Some(params).filter(|_| method == "update").and_then(cluster::news) {
            self.judge_server(rows, false)?;
            return Ok(None);
        }
        if method == self.method.notification() {
            return Ok(self.method.news(params)?);
        }
        Ok(None)
    }

    /// When [`mind_time`](Self::mind_time) has something to do.
    pub fn next_wake(&self) -> Instant {
        let interval = self.options.probe_interval;
        let heard = self.wire.heard();
        let probe = if self.probed.is_some_and(|probed| probed >= heard) {
            heard + 2 * interval
        } else {
            heard + interval
        };
        let deadlines = self.pending.values().map(|pending| pending.deadline);
        deadlines.chain([probe]).min().unwrap_or(probe)
    }

    /// Probes a silent server, and leaves one that does not answer.
    pub fn mind_time(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if self.pending.values().any(|pending| pending.deadline <= now) {
            return Err(Error::TimedOut {
                doing: "waiting for a transaction",
                limit: self.options.request_timeout,
            });
        }
        let interval = self.options.probe_interval;
        let heard = self.wire.heard();
        if now >= heard + 2 * interval {
            return Err(Error::TimedOut {
                doing: "asking for a sign of life",
                limit: interval,
            });
        }
        if now >= heard + interval && self.probed.is_none_or(|probed| probed < heard) {
            self.wire.send("echo", &json!([]))?;
            self.probed = Some(now);
        }
        Ok(())
    }
}

fn refused(doing: &'static str, answer: &Json) -> Error {
    Error::Answer {
        doing,
        answer: start_of(answer),
    }
}

/// Servers of all ages say it with these words, as a text or as an error object.
fn is_unknown_method(answer: &Json) -> bool {
    let text = answer.get("error").unwrap_or(answer).as_str().unwrap_or_default();
    text.contains("unknown method") || text.contains("unknown request")
}
