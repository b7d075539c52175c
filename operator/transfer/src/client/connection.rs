//! One connection to the source: what is asked, and what an answer must look like.

use std::{fmt::Display, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;
use virga_images::Digest;

use super::{Client, Error, Source, What, error::Failure};
use crate::{
    extents::{Extent, Page},
    name::NodeName,
    tls,
    wire::{Claim, Code, Hashed, MAX_ANSWER, MAX_VERSION, Manifest, Refusal, Released},
};

/// The most that is buffered of the connection.
const BUFFER: usize = 256 * 1024;

/// A connection to the source, for one transfer.
pub(super) struct Connection {
    node: NodeName,
    host: String,
    /// The path's beginning.
    path: String,
    token: Option<String>,
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    answer: Duration,
    deadline: Instant,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Connects, and proves that it is the right node at the other end.
    pub(super) async fn open(client: &Client, source: &Source, deadline: Instant) -> Result<Self, Failure> {
        let limit = deadline.min(Instant::now() + client.options.connect);
        let (path, token) = match &source.what {
            What::Offer { id, token } => (format!("/v1/offers/{id}"), Some(format!("Bearer {}", token.expose()))),
            What::Digest(digest) => (format!("/v1/digests/{}", digest.hex()), None),
        };
        let credentials = client.credentials.current();
        let late = |_| Failure::Transient("the source did not answer in time".to_owned());
        let stream = timeout_at(limit, TcpStream::connect(source.address))
            .await
            .map_err(late)?;
        let stream = stream.map_err(|error| Failure::transient(&error))?;
        let name = tls::server_name(&source.node).map_err(Error::Tls)?;
        let connector = TlsConnector::from(std::sync::Arc::clone(&credentials.client));
        let stream = timeout_at(limit, connector.connect(name, stream)).await.map_err(late)?;
        let stream = stream.map_err(|error| Failure::transient(&error))?;
        let found = tls::peer(stream.get_ref().1.peer_certificates()).map_err(Error::Tls)?;
        if found != source.node {
            let expected = source.node.clone();
            return Err(Error::OtherNode { found, expected }.into());
        }
        let handshake = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = timeout_at(limit, handshake)
            .await
            .map_err(late)?
            .map_err(|error| Failure::transient(&error))?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer is told as well.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a source broke off");
            }
        });
        Ok(Self {
            host: found.dns_name(),
            node: found,
            path,
            token,
            sender,
            driver,
            answer: client.options.answer,
            deadline,
        })
    }

    pub(super) async fn manifest(&mut self) -> Result<Manifest, Failure> {
        let manifest: Manifest = self.json(Method::GET, "manifest", None::<&()>).await?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b':' || byte == b'-';
        if manifest.version.is_empty() || manifest.version.len() > MAX_VERSION || !manifest.version.bytes().all(plain) {
            return Err(self.broken("it names a version that is none"));
        }
        // Offsets in a file are signed.
        if i64::try_from(manifest.length).is_err() {
            return Err(self.broken("it names a length that no file has"));
        }
        Ok(manifest)
    }

    pub(super) async fn extents(&mut self, from: u64, length: u64) -> Result<Page, Failure> {
        let page: Page = self
            .json(Method::GET, &format!("extents?from={from}"), None::<&()>)
            .await?;
        page.checked(from, length).map_err(|error| self.broken(error))
    }

    /// The source's digest, or how many bytes it has hashed so far.
    pub(super) async fn digest(&mut self) -> Result<Hashed, Failure> {
        self.json(Method::GET, "digest", None::<&()>).await
    }

    pub(super) async fn verified(&mut self, digest: Digest) -> Result<(), Failure> {
        let _: Released = self.json(Method::POST, "verified", Some(&Claim { digest })).await?;
        Ok(())
    }

    /// Asks the source to let go. When this returns, it has.
    pub(super) async fn complete(&mut self, digest: Digest) -> Result<Digest, Failure> {
        let released: Released = self.json(Method::POST, "complete", Some(&Claim { digest })).await?;
        if released.let_go {
            Ok(released.digest)
        } else {
            Err(self.broken("it says yes and does not let go"))
        }
    }

    /// The body with the bytes of an extent.
    pub(super) async fn data(&mut self, extent: Extent, version: &str, length: u64) -> Result<Incoming, Failure> {
        let (first, last) = (extent.start, extent.end() - 1);
        let mut request = self.request(Method::GET, "data", Bytes::new())?;
        for (name, value) in [
            (header::RANGE, format!("bytes={first}-{last}")),
            (header::IF_MATCH, format!("\"{version}\"")),
        ] {
            let value = value.parse().map_err(|error| self.broken(error))?;
            request.headers_mut().insert(name, value);
        }
        let response = self.send(request).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(self.refusal(response).await);
        }
        let range = response
            .headers()
            .get(header::CONTENT_RANGE)
            .and_then(|value| value.to_str().ok());
        if range == Some(&format!("bytes {first}-{last}/{length}")) {
            Ok(response.into_body())
        } else {
            Err(self.broken("it sends another range than it was asked for"))
        }
    }

    pub(super) fn broken(&self, what: impl Display) -> Failure {
        let (node, what) = (self.node.clone(), what.to_string());
        Error::Protocol { node, what }.into()
    }

    fn request(&self, method: Method, what: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/{what}", self.path))
            .header(header::HOST, &self.host);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        request
            .body(Full::new(body))
            .map_err(|error| Failure::transient(&error))
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let limit = self.deadline.min(Instant::now() + self.answer);
        let sent = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let sent = timeout_at(limit, sent).await;
        let sent = sent.map_err(|_| Failure::Transient("the source did not answer in time".to_owned()))?;
        sent.map_err(|error| Failure::transient(&error))
    }

    async fn json<T: DeserializeOwned>(
        &mut self,
        method: Method,
        what: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let body = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(|error| self.broken(error))?;
        let request = self.request(method, what, body.unwrap_or_default().into())?;
        let response = self.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(response).await);
        }
        let text = self.text(response).await?;
        serde_json::from_slice(&text).map_err(|_| self.broken("it sends something that is not an answer"))
    }

    async fn refusal(&self, response: Response<Incoming>) -> Failure {
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return self.broken(format!("it answers with status {status}"));
        }
        let refusal = match self.text(response).await {
            Ok(text) => serde_json::from_slice::<Refusal>(&text).ok(),
            Err(failure) => return failure,
        };
        match refusal {
            Some(Refusal { code }) if code.may_pass() => Failure::Transient(code.to_string()),
            Some(Refusal { code }) => refused(&self.node, code),
            None => self.broken(format!("it answers with status {status} and no reason")),
        }
    }

    /// A short body.
    async fn text(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        let body = timeout(self.answer, Limited::new(response.into_body(), MAX_ANSWER).collect()).await;
        let body = body.map_err(|_| Failure::Transient("the source stopped in the middle of an answer".to_owned()))?;
        match body {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(self.broken("it sends an answer that is too long"))
            }
            Err(error) => Err(Failure::Transient(error.to_string())),
        }
    }
}

fn refused(node: &NodeName, code: Code) -> Failure {
    let node = node.clone();
    Error::Refused { node, code }.into()
}
