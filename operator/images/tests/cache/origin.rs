//! A web server on loopback that serves one file, as badly as a test wants.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Response, StatusCode, header},
};
use futures::{StreamExt as _, stream};
use tokio::sync::Semaphore;
use virga_images::cache::Options;

/// What the server does; tests change it while it runs.
pub struct Behaviour {
    pub body: Bytes,
    pub etag: Option<&'static str>,
    pub last_modified: Option<&'static str>,
    /// Whether ranges are honoured at all.
    pub ranges: bool,
    /// Whether If-Range is honoured.
    pub if_range: bool,
    /// Whether the length is told beforehand.
    pub length: bool,
    /// For each request to come, a status to fail with.
    pub failures: VecDeque<u16>,
    /// For each request to come, after how many bytes of the answer the connection breaks.
    pub cuts: VecDeque<usize>,
    /// Where to redirect to.
    pub redirect: Option<String>,
}

pub struct Origin {
    pub behaviour: Mutex<Behaviour>,
    /// The Range header of each request.
    seen: Mutex<Vec<Option<String>>>,
    /// When gated, one piece of 64 KiB is sent for each permit.
    gate: Semaphore,
    gated: AtomicBool,
    address: SocketAddr,
}

impl Origin {
    pub async fn serve(body: Vec<u8>) -> Arc<Self> {
        install_tls_provider();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin = Arc::new(Self {
            behaviour: Mutex::new(Behaviour {
                body: body.into(),
                etag: Some("\"one\""),
                last_modified: None,
                ranges: true,
                if_range: true,
                length: true,
                failures: VecDeque::new(),
                cuts: VecDeque::new(),
                redirect: None,
            }),
            seen: Mutex::default(),
            gate: Semaphore::new(0),
            gated: AtomicBool::new(false),
            address: listener.local_addr().unwrap(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&origin));
        tokio::spawn(async move { axum::serve(listener, router).await });
        origin
    }

    pub fn url(&self) -> String {
        format!("http://{}/image", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    /// The Range headers of the requests so far.
    pub fn seen(&self) -> Vec<Option<String>> {
        self.seen.lock().unwrap().clone()
    }

    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// From now on only so many pieces of 64 KiB are sent.
    pub fn hold_after(&self, pieces: usize) {
        self.gated.store(true, Ordering::SeqCst);
        self.gate.add_permits(pieces);
    }

    pub fn release(&self) {
        self.gated.store(false, Ordering::SeqCst);
        self.gate.add_permits(100_000);
    }
}

async fn answer(State(origin): State<Arc<Origin>>, request: Request) -> Response<Body> {
    let text = |name: header::HeaderName| -> Option<String> {
        request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let range = text(header::RANGE);
    origin.seen.lock().unwrap().push(range.clone());
    let mut behaviour = origin.behaviour.lock().unwrap();
    let status = |status: u16| Response::builder().status(status).body(Body::from("no")).unwrap();
    if let Some(failure) = behaviour.failures.pop_front() {
        return status(failure);
    }
    if let Some(target) = &behaviour.redirect {
        return Response::builder()
            .status(302)
            .header(header::LOCATION, target)
            .body(Body::empty())
            .unwrap();
    }
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::ETAG, behaviour.etag),
        (header::LAST_MODIFIED, behaviour.last_modified),
    ] {
        if let Some(value) = value {
            headers.insert(name, value.parse().unwrap());
        }
    }
    let fresh = text(header::IF_RANGE).is_none_or(|condition| {
        !behaviour.if_range || [behaviour.etag, behaviour.last_modified].contains(&Some(condition.as_str()))
    });
    let total = behaviour.body.len();
    let start = range.filter(|_| behaviour.ranges && fresh).map(|range| {
        range
            .strip_prefix("bytes=")
            .and_then(|range| range.strip_suffix('-'))
            .unwrap()
            .parse::<usize>()
            .unwrap()
    });
    if start.is_some_and(|start| start >= total) {
        return status(416);
    }
    let mut answer = Response::builder().status(StatusCode::OK);
    if let Some(start) = start {
        let range = format!("bytes {start}-{}/{total}", total - 1);
        answer = answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, range);
    }
    let body = behaviour.body.slice(start.unwrap_or(0)..);
    if behaviour.length {
        answer = answer.header(header::CONTENT_LENGTH, body.len());
    }
    answer.headers_mut().unwrap().extend(headers);
    let cut = behaviour.cuts.pop_front();
    let sent = cut.map_or(body.clone(), |cut| body.slice(..cut.min(body.len())));
    let pieces: Vec<Result<Bytes, io::Error>> = (0..sent.len())
        .step_by(65_536)
        .map(|at| Ok(sent.slice(at..sent.len().min(at + 65_536))))
        .chain(cut.map(|_| Err(io::Error::other("cut"))))
        .collect();
    let gate = Arc::clone(&origin);
    let stream = stream::iter(pieces).then(move |piece| {
        let origin = Arc::clone(&gate);
        async move {
            if origin.gated.load(Ordering::SeqCst) {
                origin.gate.acquire().await.unwrap().forget();
            }
            piece
        }
    });
    answer.body(Body::from_stream(stream)).unwrap()
}

pub fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
}

/// Options with short waits, for servers on loopback.
pub fn options() -> Options {
    let mut options = Options::new(1 << 40, 0);
    options.allow_local_addresses = true;
    options.backoff = Duration::from_millis(1);
    options.max_backoff = Duration::from_millis(5);
    options.stall_timeout = Duration::from_secs(20);
    options.keep_recent = Duration::ZERO;
    options
}

/// A raw disk: a boot sector and noise, with a long run of zeros inside.
pub fn disk(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut disk = vec![0; length];
    random.fill(&mut disk[..]);
    disk[..4].copy_from_slice(&[0xeb, 0, 0, 0]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let zeros = length / 3;
    disk[zeros..zeros + length / 4].fill(0);
    disk
}
