//! The serving side: takes connections of nodes, and gives them what is offered to them.

mod body;
mod pulse;
mod routes;

use std::{collections::HashMap, convert::Infallible, sync::Arc, sync::Mutex, sync::PoisonError, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    bandwidth::Bandwidth,
    name::NodeName,
    offers::Offers,
    tls::{self, Credentials},
};
use pulse::Pulse;

/// After `accept` failed, for want of file descriptors for one, it is tried again after this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The most that is buffered of a connection in each direction. hyper wants at least 8 KiB.
const BUFFER: usize = 256 * 1024;

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many connections there may be. More wait to be accepted.
    pub max_connections: usize,
    /// How many of one node. More are closed. A node has one for each of its transfers.
    pub max_connections_per_node: usize,
    /// How many may be in their TLS handshake, so that strangers can't take the places of nodes.
    pub max_handshakes: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a peer may take for a request, and between requests.
    pub idle: Duration,
    /// How long a peer may take for the body of a request.
    pub question: Duration,
    /// How long we may take for an answer, but for the bytes of a file.
    pub handler: Duration,
    /// How long we may take to read a piece.
    pub read: Duration,
    /// How long a peer may take for a piece of an answer, 128 KiB.
    pub stall: Duration,
    /// How long a digest is waited for before the peer must ask again. Less than `handler`.
    pub digest_wait: Duration,
    /// How long a connection may last: then the peer's certificate is looked at again.
    pub max_age: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 32,
            max_connections_per_node: 8,
            max_handshakes: 32,
            handshake: Duration::from_secs(10),
            idle: Duration::from_mins(1),
            question: Duration::from_secs(10),
            handler: Duration::from_secs(30),
            read: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            digest_wait: Duration::from_secs(10),
            max_age: Duration::from_hours(6),
        }
    }
}

/// Serves what is offered.
#[derive(Clone, Debug)]
pub struct Server(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    offers: Offers,
    credentials: Arc<Credentials>,
    bandwidth: Bandwidth,
    options: Options,
    /// Connections of each node.
    nodes: Mutex<HashMap<NodeName, usize>>,
}

impl Server {
    /// A server of these offers.
    pub fn new(offers: Offers, credentials: Arc<Credentials>, bandwidth: Bandwidth, options: Options) -> Self {
        Self(Arc::new(Shared {
            offers,
            credentials,
            bandwidth,
            options,
            nodes: Mutex::default(),
        }))
    }

    /// Serves until `stop`. Connections that are there then are closed: receivers go on later.
    pub async fn run(&self, listener: TcpListener, stop: CancellationToken) {
        let shared = &self.0;
        let places = Arc::new(Semaphore::new(shared.options.max_connections));
        let handshakes = Arc::new(Semaphore::new(shared.options.max_handshakes));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            // Dropping the set ends all.
            let Some(handshake) = unless(&stop, Arc::clone(&handshakes).acquire_owned()).await else {
                return;
            };
            let Ok(handshake) = handshake else { return };
            let Some(accepted) = unless(&stop, listener.accept()).await else {
                return;
            };
            match accepted {
                Ok((stream, _)) => {
                    let (shared, places) = (Arc::clone(shared), Arc::clone(&places));
                    connections.spawn(async move { shared.connection(stream, handshake, places).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection for a transfer");
                    if unless(&stop, sleep(ACCEPT_PAUSE)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }
}

async fn unless<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = stop.cancelled() => None,
        done = work => Some(done),
    }
}

impl Shared {
    async fn connection(self: Arc<Self>, stream: TcpStream, handshake: OwnedSemaphorePermit, places: Arc<Semaphore>) {
        let from = stream.peer_addr().ok();
        let acceptor = TlsAcceptor::from(Arc::clone(&self.credentials.current().server));
        // An answer's last piece must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let stream = match timeout(self.options.handshake, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(?from, %error, "a peer was not let in");
                return;
            }
            Err(_) => {
                tracing::debug!(?from, "a peer took too long for its handshake");
                return;
            }
        };
        let peer = match tls::peer(stream.get_ref().1.peer_certificates()) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::warn!(?from, %error, "a peer has a certificate of ours that is not a node's");
                return;
            }
        };
        let Some(_place_of_node) = NodePlace::take(&self, &peer) else {
            tracing::warn!(%peer, "a node has too many connections");
            return;
        };
        let Ok(Ok(_place)) = timeout(self.options.handshake, places.acquire_owned()).await else {
            tracing::warn!(%peer, "there are too many connections");
            return;
        };
        drop(handshake);
        let pulse = Pulse::new(self.options.idle);
        let service = service_fn(|request| {
            let (shared, peer, pulse) = (Arc::clone(&self), peer.clone(), pulse.clone());
            async move { Ok::<_, Infallible>(routes::answer(&shared, &peer, &pulse, request).await) }
        });
        let served = http1::Builder::new()
            // The pulse sees to time.
            .header_read_timeout(None)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            served = served => if let Err(error) = served {
                tracing::debug!(%peer, %error, "a connection of a node broke off");
            },
            () = pulse.missed() => tracing::info!(%peer, "a node did not get on, its connection is closed"),
            () = sleep(self.options.max_age) => tracing::debug!(%peer, "a connection of a node is too old"),
        }
    }
}

/// A connection of a node, counted.
struct NodePlace<'a> {
    shared: &'a Shared,
    node: NodeName,
}

impl<'a> NodePlace<'a> {
    fn take(shared: &'a Shared, node: &NodeName) -> Option<Self> {
        let mut nodes = shared.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let count = nodes.entry(node.clone()).or_default();
        if *count >= shared.options.max_connections_per_node {
            return None;
        }
        *count += 1;
        let node = node.clone();
        Some(Self { shared, node })
    }
}

impl Drop for NodePlace<'_> {
    fn drop(&mut self) {
        let mut nodes = self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = nodes.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                nodes.remove(&self.node);
            }
        }
    }
}
