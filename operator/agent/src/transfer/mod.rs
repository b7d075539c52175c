//! Bytes from and to other hosts: who is this host to them, what does it serve, and how does it fetch theirs?
//!
//! The protocol and its rules are `virga_transfer`'s. Here it gets the node's certificate, the port, and what is in the
//! node's image cache.

mod certificate;
mod published;

use std::{net::SocketAddr, num::NonZeroU64, path::Path, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use virga_runtime::{class::chain, clock::Clock};
use virga_transfer::{
    NodeName,
    bandwidth::Bandwidth,
    client::{self, Client, Source, What},
    offers::{self, Offers},
    server::{self, Server},
    tls::Credentials,
};

use crate::{ask::Ask, node::Wake};
pub use published::publish;

/// The wait after a first failure; it doubles with each.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);
/// How often another certificate is asked for: well within its life, and often enough to hear of a new authority before
/// it signs.
const RENEW: Duration = Duration::from_hours(6);

/// How bytes go from and to other hosts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where other agents reach this one; port 0 is any.
    pub address: SocketAddr,
    /// Bytes a second that all transfers may take together.
    pub bandwidth: Option<NonZeroU64>,
    /// Bytes of the disk that must stay free.
    pub min_free: u64,
}

/// Another host, as it is told of in the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name, which its certificate must say.
    pub node: NodeName,
    /// Where its agent listens.
    pub address: SocketAddr,
}

impl Peer {
    /// `None` when the node could have no certificate, or the address is none.
    pub fn parse(node: &str, address: &str) -> Option<Self> {
        Some(Self {
            node: node.parse().ok()?,
            address: address.parse().ok()?,
        })
    }

    /// Something that it has.
    pub fn source(&self, what: What) -> Source {
        Source {
            node: self.node.clone(),
            address: self.address,
            what,
        }
    }
}

/// This host's part in transfers. Clones share it.
#[derive(Clone)]
pub struct Transfers {
    shared: Arc<Shared>,
}

struct Shared {
    node: String,
    offers: Offers,
    bandwidth: Bandwidth,
    options: Options,
    client: watch::Sender<Option<Client>>,
    port: watch::Sender<Option<u16>>,
}

impl Transfers {
    /// Opens the ledger of what was offered. Nothing is served or fetched before [`Self::run`]. Blocks.
    pub fn open(node: &str, ledger: &Path, options: Options, clock: Arc<dyn Clock>) -> Result<Self, offers::Error> {
        let offers = Offers::open(ledger, Arc::new(move || clock.now()))?;
        Ok(Self {
            shared: Arc::new(Shared {
                node: node.into(),
                offers,
                bandwidth: Bandwidth::new(options.bandwidth),
                options,
                client: watch::Sender::new(None),
                port: watch::Sender::new(None),
            }),
        })
    }

    /// What this host gives up, to whom.
    pub fn offers(&self) -> &Offers {
        &self.shared.offers
    }

    /// What fetches from others; nothing before this host has its certificate.
    pub fn client(&self) -> Option<Client> {
        self.shared.client.borrow().clone()
    }

    /// The port that others reach this host at, when it serves.
    pub fn port(&self) -> Option<u16> {
        *self.shared.port.borrow()
    }

    /// Has the controller sign this host's key, serves, and renews the certificate, until the process stops.
    pub async fn run(self, controller: Ask, wake: Wake, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.serve(controller, wake, stop.clone()) => {}
        }
    }

    async fn serve(&self, controller: Ask, wake: Wake, stop: CancellationToken) {
        let shared = &self.shared;
        let Some(credentials) = self.first(&controller).await else {
            return;
        };
        let options = client::Options {
            min_free: shared.options.min_free,
            // Whoever calls tries again, or asks somebody else.
            attempts: 3,
            ..client::Options::default()
        };
        let client = Client::new(Arc::clone(&credentials), shared.bandwidth.clone(), options);
        shared.client.send_replace(Some(client));
        let listener = self.listen().await;
        shared.port.send_replace(listener.local_addr().ok().map(|at| at.port()));
        wake.wake();
        let server = Server::new(
            shared.offers.clone(),
            Arc::clone(&credentials),
            shared.bandwidth.clone(),
            server::Options::default(),
        );
        tokio::join!(server.run(listener, stop), self.renew(&controller, &credentials));
    }

    /// The first certificate. The controller may not be there yet; without one to ask there is nothing to wait for.
    async fn first(&self, controller: &Ask) -> Option<Arc<Credentials>> {
        let mut pause = AGAIN;
        loop {
            let error = match certificate::signed(controller, &self.shared.node).await {
                Ok((identity, authorities)) => match Credentials::new(&identity, &authorities) {
                    Ok(credentials) => return Some(Arc::new(credentials)),
                    Err(error) => chain(&error),
                },
                Err(error) if error.is_final() => {
                    tracing::info!(
                        error = chain(&error),
                        "nothing is fetched from or served to other hosts"
                    );
                    return None;
                }
                Err(error) => chain(&error),
            };
            tracing::warn!(error, "asking for the node's certificate");
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
    }

    async fn renew(&self, controller: &Ask, credentials: &Credentials) {
        let mut next = Instant::now() + RENEW;
        let mut pause = AGAIN;
        loop {
            tokio::time::sleep_until(next).await;
            let renewed = match certificate::signed(controller, &self.shared.node).await {
                Ok((identity, authorities)) => credentials
                    .replace(&identity, &authorities)
                    .map_err(|error| chain(&error)),
                Err(error) => Err(chain(&error)),
            };
            match renewed {
                Ok(()) => (next, pause) = (Instant::now() + RENEW, AGAIN),
                Err(error) => {
                    tracing::warn!(error, "renewing the node's certificate");
                    next = Instant::now() + pause;
                    pause = (pause * 2).min(LONGEST);
                }
            }
        }
    }

    async fn listen(&self) -> TcpListener {
        let mut pause = AGAIN;
        loop {
            match TcpListener::bind(self.shared.options.address).await {
                Ok(listener) => return listener,
                Err(error) => {
                    tracing::warn!(%error, address = %self.shared.options.address, "listening for other hosts");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_read_as_it_is_told() {
        for told in ["172.31.0.3:9192", "[fd00::3]:9192"] {
            assert_eq!(Peer::parse("node-3", told).unwrap().address.to_string(), told);
        }
        assert_eq!(Peer::parse("node-3", "node-3:9192"), None, "a name could lead anywhere");
        assert_eq!(Peer::parse("*", "172.31.0.3:9192"), None);
        assert_eq!(Peer::parse("node-3", "172.31.0.3"), None);
    }
}
