//! A connection as messages: one task reads, one writes, so that neither can hold up the other. Requests of the peer are
//! answered here; replies and notifications go on in the order in which they came, because a reply to a transaction
//! says that its changes have been notified before (ovsdb-server(7), 4.1.5).

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value as Json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    frame::{self, Limits, Splitter},
    message::{self, Message},
    remote::Stream,
};

/// Messages that wait to be read by us, at most. More stay in the socket, and slow the peer down.
const INCOMING: usize = 64;
/// Messages that wait to be written, at most. A peer that lets so many gather does not read.
const OUTGOING: usize = 128;
/// Read from the socket at once.
const CHUNK: usize = 64 << 10;
/// How long the last messages may take when a connection is closed in order.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// By the peer.
    #[error("the server closed the connection")]
    Closed,
    /// By the network.
    #[error("{doing}")]
    Io {
        /// Reading or writing.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The peer sends what is not JSON-RPC, or too much of it.
    #[error("cutting the stream into messages")]
    Frame(#[from] frame::Error),
    /// The peer sends what is not JSON-RPC.
    #[error("reading what the server sent")]
    Message(#[from] message::Error),
    /// The peer asks and asks, or is asked, and takes nothing.
    #[error("the server does not read: {OUTGOING} messages wait to be written")]
    NotReading,
}

/// What concerns the session.
#[derive(Debug)]
pub enum Incoming {
    /// An answer to a request.
    Reply {
        /// The request's.
        id: u64,
        /// The result, or the error.
        outcome: Result<Json, Json>,
    },
    /// News.
    Notification {
        /// What it tells.
        method: String,
        /// About what.
        params: Json,
    },
}

/// A connection. Dropping it closes it at once.
pub struct Wire {
    incoming: mpsc::Receiver<Result<Incoming, Error>>,
    outgoing: mpsc::Sender<Vec<u8>>,
    heard: Arc<Mutex<Instant>>,
    next_id: u64,
    reader: JoinHandle<()>,
    writer: Option<JoinHandle<()>>,
}

impl Wire {
    /// Starts to read and write a stream.
    pub fn new(stream: Box<dyn Stream>, limits: Limits) -> Self {
        let (read, write) = tokio::io::split(stream);
        let (to_session, incoming) = mpsc::channel(INCOMING);
        let (outgoing, to_write) = mpsc::channel(OUTGOING);
        let heard = Arc::new(Mutex::new(Instant::now()));
        let writer = tokio::spawn(write_all(write, to_write, to_session.clone()));
        let reader = Reader {
            stream: read,
            splitter: Splitter::new(limits),
            to_session,
            answers: outgoing.clone(),
            heard: Arc::clone(&heard),
        };
        Self {
            incoming,
            outgoing,
            heard,
            next_id: 0,
            reader: tokio::spawn(reader.run()),
            writer: Some(writer),
        }
    }

    /// Queues a request and says under which number its reply will come.
    pub fn send(&mut self, method: &str, params: &Json) -> Result<u64, Error> {
        let id = self.next_id;
        self.next_id += 1;
        queue(&self.outgoing, message::request(id, method, params))?;
        Ok(id)
    }

    /// The next reply or notification. Cancelling it loses nothing.
    pub async fn receive(&mut self) -> Result<Incoming, Error> {
        self.incoming.recv().await.unwrap_or(Err(Error::Closed))
    }

    /// When bytes last came in: also a long message that is still coming is a sign of life.
    pub fn heard(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits, and says goodbye. Bounded in time.
    pub async fn close(mut self) {
        self.reader.abort();
        // The reader held the other sender.
        let _ = (&mut self.reader).await;
        let (closed, _) = mpsc::channel(1);
        self.outgoing = closed;
        if let Some(mut writer) = self.writer.take()
            && timeout(CLOSE_LIMIT, &mut writer).await.is_err()
        {
            writer.abort();
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.reader.abort();
        if let Some(writer) = &self.writer {
            writer.abort();
        }
    }
}

fn queue(outgoing: &mpsc::Sender<Vec<u8>>, message: Vec<u8>) -> Result<(), Error> {
    outgoing.try_send(message).map_err(|error| match error {
        TrySendError::Full(_) => Error::NotReading,
        TrySendError::Closed(_) => Error::Closed,
    })
}

struct Reader {
    stream: ReadHalf<Box<dyn Stream>>,
    splitter: Splitter,
    to_session: mpsc::Sender<Result<Incoming, Error>>,
    answers: mpsc::Sender<Vec<u8>>,
    heard: Arc<Mutex<Instant>>,
}

impl Reader {
    async fn run(mut self) {
        let Err(error) = self.read_all().await;
        // Nobody listens any more if this fails.
        let _ = self.to_session.send(Err(error)).await;
    }

    async fn read_all(&mut self) -> Result<std::convert::Infallible, Error> {
        loop {
            while let Some(frame) = self.splitter.next_frame()? {
                let Some(incoming) = self.answer(Message::parse(&frame)?)? else {
                    continue;
                };
                if self.to_session.send(Ok(incoming)).await.is_err() {
                    return Err(Error::Closed);
                }
            }
            let buffer = self.splitter.buffer();
            buffer.reserve(CHUNK);
            let count = self.stream.read_buf(buffer).await.map_err(|source| Error::Io {
                doing: "reading from the server",
                source,
            })?;
            if count == 0 {
                return Err(Error::Closed);
            }
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }

    /// Answers what the peer asks, and gives on what it answers or tells.
    fn answer(&self, message: Message) -> Result<Option<Incoming>, Error> {
        match message {
            Message::Request { id, method, params } => {
                let answer = if method == "echo" {
                    message::reply(&id, Ok(&params))
                } else {
                    message::reply(&id, Err("unknown method"))
                };
                queue(&self.answers, answer)?;
                Ok(None)
            }
            Message::Notification { method, params } => Ok(Some(Incoming::Notification { method, params })),
            Message::Reply { id: Some(id), outcome } => Ok(Some(Incoming::Reply { id, outcome })),
            // To a request that we never sent.
            Message::Reply { id: None, .. } => Ok(None),
        }
    }
}

async fn write_all(
    mut stream: WriteHalf<Box<dyn Stream>>,
    mut messages: mpsc::Receiver<Vec<u8>>,
    to_session: mpsc::Sender<Result<Incoming, Error>>,
) {
    while let Some(message) = messages.recv().await {
        let written = async {
            stream.write_all(&message).await?;
            stream.flush().await
        };
        if let Err(source) = written.await {
            let doing = "writing to the server";
            // If the queue is full the session learns it from the next request, which finds the writer gone.
            let _ = to_session.try_send(Err(Error::Io { doing, source }));
            return;
        }
    }
    // All senders are gone: the connection is closed in order. The peer may be gone already.
    let _ = stream.shutdown().await;
}
