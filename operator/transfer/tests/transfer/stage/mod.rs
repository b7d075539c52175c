//! A cloud of two hosts: an authority, ledgers and files in temporary directories, servers on loopback, and a proxy
//! between that counts and cuts.

use std::{
    fs::File,
    net::SocketAddr,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use virga_images::Digest;
use virga_transfer::{
    NodeName, OfferId, Token,
    bandwidth::Bandwidth,
    certificate::{NodeKey, Validity, issue},
    client::{self, Client, Progress, Received, Request, Source, What},
    offers::{Offer, Offers},
    server::{self, Server},
    tls::Credentials,
};

pub const MIB: u64 = 1024 * 1024;

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn bundle(&self) -> String {
        self.0.pem()
    }

    /// A node's credentials, valid from `from_hours` to `to_hours` after now, trusting `bundle`.
    pub fn credentials_within(&self, name: &str, hours: std::ops::Range<i64>, bundle: &str) -> Arc<Credentials> {
        let key = NodeKey::generate().unwrap();
        let at = |hours| Timestamp::now() + jiff::SignedDuration::from_hours(hours);
        let validity = Validity {
            not_before: at(hours.start),
            not_after: at(hours.end),
        };
        let request = key.request(&node(name)).unwrap();
        let chain = issue(&request, &node(name), &self.0, validity).unwrap();
        let identity = key.identity(&node(name), &chain).unwrap();
        Arc::new(Credentials::new(&identity, bundle).unwrap())
    }

    /// Signs for a day.
    pub fn issue(&self, key: &NodeKey, name: &NodeName) -> String {
        let validity = Validity {
            not_before: Timestamp::now() - jiff::SignedDuration::from_hours(1),
            not_after: Timestamp::now() + jiff::SignedDuration::from_hours(24),
        };
        issue(&key.request(name).unwrap(), name, &self.0, validity).unwrap()
    }

    pub fn credentials(&self, name: &str) -> Arc<Credentials> {
        self.credentials_within(name, -1..24, &self.bundle())
    }

    /// A certificate for both sides with these DNS names, and its key, PEM.
    pub fn certificate(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &*self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

pub fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

pub fn id(text: &str) -> OfferId {
    text.parse().unwrap()
}

/// A host that serves. It can die and come back.
pub struct Host {
    pub directory: TempDir,
    pub credentials: Arc<Credentials>,
    pub bandwidth: Bandwidth,
    pub options: server::Options,
    pub offers: Offers,
    pub address: SocketAddr,
    /// Seconds that its clock is ahead.
    pub ahead: Arc<AtomicI64>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Host {
    pub async fn start(credentials: Arc<Credentials>) -> Self {
        Self::start_with(credentials, server::Options::default()).await
    }

    pub async fn start_with(credentials: Arc<Credentials>, options: server::Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ahead = Arc::new(AtomicI64::new(0));
        let bandwidth = Bandwidth::new(None);
        let offers = open(directory.path(), &ahead);
        let (address, stop, running) = serve(&offers, &credentials, &bandwidth, &options).await;
        Self {
            directory,
            credentials,
            bandwidth,
            options,
            offers,
            address,
            ahead,
            stop,
            running,
        }
    }

    /// Dies, and comes back with what is on its disk, at another port.
    pub async fn restart(&mut self) {
        self.running.abort();
        let _ = (&mut self.running).await;
        self.offers = open(self.directory.path(), &self.ahead);
        (self.address, self.stop, self.running) =
            serve(&self.offers, &self.credentials, &self.bandwidth, &self.options).await;
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file of this length, with random data at these places.
    pub fn file(&self, name: &str, length: u64, data: &[(u64, u64)]) -> PathBuf {
        let path = self.path(name);
        let file = File::create(&path).unwrap();
        file.set_len(length).unwrap();
        let mut random = fastrand::Rng::with_seed(length);
        for (at, len) in data {
            let bytes: Vec<u8> = (0..*len).map(|_| random.u8(1..)).collect();
            file.write_all_at(&bytes, *at).unwrap();
        }
        file.sync_all().unwrap();
        path
    }

    /// Offers a file for an hour, to be handed over.
    pub async fn offer(&self, name: &str, path: &Path, receiver: &str) -> Token {
        let offer = Offer {
            id: id(name),
            path: path.to_owned(),
            receiver: node(receiver),
            expires: self.now() + jiff::SignedDuration::from_hours(1),
            handover: true,
        };
        self.offers.offer(offer).await.unwrap()
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::now() + jiff::SignedDuration::from_secs(self.ahead.load(Ordering::SeqCst))
    }

    pub fn source(&self, name: &str, token: &Token) -> Source {
        Source {
            node: self.credentials.node(),
            address: self.address,
            what: What::Offer {
                id: id(name),
                token: token.clone(),
            },
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.cancel();
        self.running.abort();
    }
}

fn open(directory: &Path, ahead: &Arc<AtomicI64>) -> Offers {
    let ahead = Arc::clone(ahead);
    let now = move || Timestamp::now() + jiff::SignedDuration::from_secs(ahead.load(Ordering::SeqCst));
    Offers::open(&directory.join("ledger"), Arc::new(now)).unwrap()
}

async fn serve(
    offers: &Offers,
    credentials: &Arc<Credentials>,
    bandwidth: &Bandwidth,
    options: &server::Options,
) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = Server::new(
        offers.clone(),
        Arc::clone(credentials),
        bandwidth.clone(),
        options.clone(),
    );
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { server.run(listener, stop).await }
    });
    (address, stop, running)
}

/// A TLS connection to node-1 with such a certificate, or none, for what no client of ours would send.
pub async fn connect(
    host: &Host,
    authority: &Authority,
    certificate: Option<(String, String)>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.bundle().as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        Some((chain, key)) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(host.address).await?;
    let name = ServerName::try_from("node-1.agents.virga.dev").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Options that do not let a test wait.
pub fn impatient() -> client::Options {
    client::Options {
        attempts: 3,
        backoff: Duration::from_millis(5),
        max_backoff: Duration::from_millis(20),
        checkpoint_bytes: MIB,
        poll: Duration::from_millis(10),
        min_free: 0,
        ..client::Options::default()
    }
}

pub fn client(credentials: &Arc<Credentials>) -> Client {
    Client::new(Arc::clone(credentials), Bandwidth::new(None), impatient())
}

pub fn request(source: Source, destination: &Path) -> Request {
    Request {
        source,
        destination: destination.to_owned(),
        max_length: 1 << 40,
    }
}

pub async fn receive(client: &Client, request: &Request) -> Result<Received, client::Error> {
    client.receive(request, &watch::Sender::new(Progress::default())).await
}

pub fn digest_of(path: &Path) -> Digest {
    Digest::of(&std::fs::read(path).unwrap())
}

/// Bytes that a file takes on its disk.
pub fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// Forwards connections, counts what the source sends, and cuts all of them when a budget is spent.
pub struct Proxy {
    pub address: SocketAddr,
    pub forwarded: Arc<AtomicU64>,
    pub target: watch::Sender<SocketAddr>,
    budget: Arc<AtomicI64>,
    cut: watch::Receiver<u64>,
    running: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let forwarded = Arc::new(AtomicU64::new(0));
        let budget = Arc::new(AtomicI64::new(i64::MAX));
        let target = watch::Sender::new(target);
        let (cuts, cut) = watch::channel(0);
        let running = tokio::spawn({
            let (forwarded, budget, target) = (Arc::clone(&forwarded), Arc::clone(&budget), target.subscribe());
            async move {
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((near, _)) = listener.accept().await {
                    let (forwarded, budget, cuts) = (Arc::clone(&forwarded), Arc::clone(&budget), cuts.clone());
                    let to = *target.borrow();
                    connections.spawn(async move {
                        let Ok(far) = TcpStream::connect(to).await else { return };
                        forward(near, far, &forwarded, &budget).await;
                        if budget.load(Ordering::SeqCst) <= 0 {
                            cuts.send_modify(|count| *count += 1);
                        }
                    });
                }
            }
        });
        Self {
            address,
            forwarded,
            target,
            budget,
            cut,
            running,
        }
    }

    /// After so many bytes from the source every connection is cut.
    pub fn cut_after(&mut self, bytes: u64) {
        self.cut.mark_unchanged();
        self.budget.store(i64::try_from(bytes).unwrap(), Ordering::SeqCst);
    }

    /// Waits until a connection was cut for the budget.
    pub async fn was_cut(&mut self) {
        self.cut.changed().await.unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn forward(near: TcpStream, far: TcpStream, forwarded: &AtomicU64, budget: &AtomicI64) {
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    let up = tokio::io::copy(&mut near_read, &mut far_write);
    let down = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let Ok(count) = far_read.read(&mut buffer).await else {
                return;
            };
            let allowed = budget.fetch_sub(i64::try_from(count).unwrap(), Ordering::SeqCst);
            let count = count.min(usize::try_from(allowed.max(0)).unwrap());
            forwarded.fetch_add(count as u64, Ordering::SeqCst);
            let sent = near_write.write_all(&buffer[..count]).await;
            if count == 0 || sent.is_err() || budget.load(Ordering::SeqCst) <= 0 {
                return;
            }
        }
    };
    tokio::select! {
        _ = up => {}
        () = down => {}
    }
}
