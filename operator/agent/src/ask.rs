//! How is the controller asked for what the agent can't have from the API server?
//!
//! The controller sees from the agent's own token on which node it runs, and answers for that node only.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use reqwest::{Certificate, Method, StatusCode, header};
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(10);
/// The ConfigMap and the key with which the controller publishes its CA.
const CA_CONFIG_MAP: &str = "virga-ca";
const CA_KEY: &str = "ca.crt";
/// How much of an error's text is passed on.
const MESSAGE_BYTES: usize = 512;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agent was not told where the controller is.
    #[error("asking the controller: the agent has no --controller-url")]
    NoController,
    /// The token could not be read.
    #[error("reading the service account's token {path}")]
    Token {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The controller's CA could not be read.
    #[error("reading the ConfigMap {CA_CONFIG_MAP}")]
    Ca(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The controller could not be reached.
    #[error("asking the controller")]
    Http(#[from] reqwest::Error),
    /// The controller said no.
    #[error("asking the controller: HTTP status {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// It took too long.
    #[error("asking the controller: no answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    /// The answer is longer than it may be.
    #[error("asking the controller: the answer has more than {0} bytes")]
    TooLong(usize),
}

/// Asks the controller.
#[derive(Clone)]
pub struct Ask {
    client: Client,
    namespace: String,
    url: Option<String>,
    ip: Option<IpAddr>,
    token_file: PathBuf,
}

impl Ask {
    /// `url` is where the controller is, `ip` the address of its name if no resolver knows it, `namespace` where its CA
    /// is published.
    pub fn new(client: Client, namespace: &str, url: Option<String>, ip: Option<IpAddr>, token_file: PathBuf) -> Self {
        Self {
            client,
            namespace: namespace.into(),
            url,
            ip,
            token_file,
        }
    }

    /// What is at this path, of at most `limit` bytes.
    pub async fn get(&self, path: &str, limit: usize) -> Result<Vec<u8>, Error> {
        self.within(Method::GET, path, String::new(), limit).await
    }

    /// What the controller answers to this text, of at most `limit` bytes.
    pub async fn post(&self, path: &str, body: String, limit: usize) -> Result<Vec<u8>, Error> {
        self.within(Method::POST, path, body, limit).await
    }

    async fn within(&self, method: Method, path: &str, body: String, limit: usize) -> Result<Vec<u8>, Error> {
        timeout(TIMEOUT, self.ask(method, path, body, limit))
            .await
            .map_err(|_| Error::TimedOut)?
    }

    async fn ask(&self, method: Method, path: &str, body: String, limit: usize) -> Result<Vec<u8>, Error> {
        let url = self.url.as_deref().ok_or(Error::NoController)?;
        // Read anew each time: the kubelet replaces the token, and the controller rotates its CA.
        let token = tokio::fs::read_to_string(&self.token_file)
            .await
            .map_err(|source| Error::Token {
                path: self.token_file.clone(),
                source,
            })?;
        let mut http = reqwest::Client::builder();
        let host_name = reqwest::Url::parse(url)
            .ok()
            .and_then(|url| Some(url.host_str()?.to_owned()));
        if let (Some(ip), Some(host_name)) = (self.ip, host_name) {
            // Port 0: the URL's.
            http = http.resolve(&host_name, SocketAddr::new(ip, 0));
        }
        let http = http
            .tls_certs_only(self.authorities().await?)
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let mut response = http
            .request(method, format!("{}/{path}", url.trim_end_matches('/')))
            .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
            .body(body)
            .send()
            .await?;
        let status = response.status();
        let limit = if status.is_success() { limit } else { MESSAGE_BYTES };
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > limit {
                break;
            }
        }
        if status.is_success() {
            return if bytes.len() > limit {
                Err(Error::TooLong(limit))
            } else {
                Ok(bytes)
            };
        }
        bytes.truncate(limit);
        let message = String::from_utf8_lossy(&bytes)
            .replace(char::is_control, " ")
            .trim()
            .to_owned();
        Err(Error::Refused { status, message })
    }

    async fn authorities(&self) -> Result<Vec<Certificate>, Error> {
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        let map = maps.get(CA_CONFIG_MAP).await.map_err(|error| Error::Ca(error.into()))?;
        let pem = map.data.unwrap_or_default().remove(CA_KEY).unwrap_or_default();
        let certificates = Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| Error::Ca(error.into()))?;
        if certificates.is_empty() {
            return Err(Error::Ca(format!("it has no certificate under {CA_KEY}").into()));
        }
        Ok(certificates)
    }
}
