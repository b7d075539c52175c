//! The HTTP client: which URLs and addresses it talks to, and what an answer means.
//!
//! The agent runs in the host's network and fetches what tenants name, so it must not become their way to services
//! that listen on the node only, or to a cloud's metadata service (CWE-918). Addresses are checked after the name was
//! resolved, for every redirect too.

use std::{
    error::Error as StdError,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use reqwest::{
    Certificate, Client, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{self, HeaderMap},
    redirect,
};
use tokio::time::{Instant, timeout_at};

use super::{Error, Options, part::Version};

/// How much of a time a server may ask us to wait is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

/// How an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It won't get better.
    Final(Error),
    /// What we have can't be continued; it may work from the start.
    Stale(String),
    /// It may work next time.
    Transient {
        /// For the user, should it have been the last attempt.
        reason: String,
        /// When the server said how long to wait.
        retry_after: Option<Duration>,
    },
}

impl Failure {
    pub(super) fn transient(reason: impl Into<String>) -> Self {
        Self::Transient {
            reason: reason.into(),
            retry_after: None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// A URL, or an address behind one, that is not talked to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UrlRefused(String);

/// What a good answer brings.
pub(super) struct Answer {
    pub(super) response: Response,
    /// The offset of the first byte: 0, or what was asked for.
    pub(super) offset: u64,
    pub(super) version: Version,
}

#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    allow_local: bool,
}

/// Reads a URL that can be fetched in principle.
pub(super) fn parse(url: &str) -> Result<Url, Error> {
    let url = Url::parse(url).map_err(|error| Error::InvalidUrl(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::InvalidUrl(format!(
            "its scheme is {}, expected http or https",
            url.scheme()
        )));
    }
    Ok(url)
}

impl Http {
    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(Error::Client("no TLS provider is installed in this process".to_owned()));
        }
        let certificates = Certificate::from_pem_bundle(&options.ca_certificates)
            .map_err(|error| Error::Client(format!("reading the CA certificates: {}", chain(&error))))?;
        let build = |only_ours: bool| {
            let (max_redirects, allow_local) = (options.max_redirects, options.allow_local_addresses);
            let builder = Client::builder()
                .user_agent(concat!("virga/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(options.connect_timeout)
                .redirect(redirect::Policy::custom(move |attempt| {
                    let refusal = if attempt.previous().len() > max_redirects {
                        Some(format!("it redirects more than {max_redirects} times"))
                    } else {
                        refused_redirect(attempt.previous().last(), attempt.url(), allow_local)
                    };
                    match refusal {
                        Some(reason) => attempt.error(UrlRefused(reason)),
                        None => attempt.follow(),
                    }
                }))
                .referer(false)
                .dns_resolver(Resolver { allow_local });
            let certificates = certificates.iter().cloned();
            if only_ours {
                builder.tls_certs_only(certificates)
            } else {
                builder.tls_certs_merge(certificates)
            }
            .build()
        };
        // A minimal container has no certificates of its own, and then only plain HTTP and our own CAs can work.
        let client = build(false)
            .or_else(|error| {
                tracing::warn!(
                    error = chain(&error),
                    "no system CA certificates, trusting the configured ones only"
                );
                build(true)
            })
            .map_err(|error| Error::Client(chain(&error)))?;
        Ok(Self {
            client,
            allow_local: options.allow_local_addresses,
        })
    }

    /// Asks for the file from `offset` on, of the same version as before. Ends by `deadline`.
    pub(super) async fn get(
        &self,
        url: &Url,
        offset: u64,
        version: &Version,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        if let Some(reason) = refused_host(url, self.allow_local) {
            return Err(Error::InvalidUrl(reason).into());
        }
        // The bytes are hashed as they are: no compression on the way.
        let mut request = self.client.get(url.clone()).header(header::ACCEPT_ENCODING, "identity");
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
            if let Some(validator) = version.validator() {
                request = request.header(header::IF_RANGE, validator);
            }
        }
        let response = timeout_at(deadline, request.send())
            .await
            .map_err(|_| Failure::transient("the server did not answer in time"))?
            .map_err(|error| failure(&error))?;
        judge(response, offset, version)
    }
}

/// What the status and the headers mean.
fn judge(response: Response, offset: u64, before: &Version) -> Result<Answer, Failure> {
    let headers = response.headers();
    match response.status() {
        StatusCode::OK => {
            let version = Version {
                total: response.content_length(),
                ..validators(headers)
            };
            Ok(Answer {
                offset: 0,
                version,
                response,
            })
        }
        StatusCode::PARTIAL_CONTENT if offset > 0 => {
            let (start, total) = content_range(headers)
                .ok_or_else(|| Failure::Stale("the server sent a part without saying which".to_owned()))?;
            let now = validators(headers);
            // Some servers answer a range and forget the condition.
            let same = start == offset
                && (now.etag.is_none() || now.etag == before.etag)
                && (total.is_none() || before.total.is_none() || total == before.total);
            if !same {
                return Err(Failure::Stale("the file changed on the server".to_owned()));
            }
            let total = total
                .or(before.total)
                .or_else(|| response.content_length().map(|rest| offset + rest));
            Ok(Answer {
                offset,
                version: Version {
                    total,
                    ..before.clone()
                },
                response,
            })
        }
        StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => Err(Failure::Stale(
            "the file on the server is shorter than what came before".to_owned(),
        )),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Error::NotFound {
            status: response.status().as_u16(),
        }
        .into()),
        status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS) => {
            Err(busy(status, headers))
        }
        status if status.is_redirection() => {
            Err(Error::InvalidUrl("it redirects to where it can't be followed".to_owned()).into())
        }
        status if status.is_server_error() => Err(busy(status, headers)),
        status => Err(Error::Refused {
            status: status.as_u16(),
        }
        .into()),
    }
}

fn busy(status: StatusCode, headers: &HeaderMap) -> Failure {
    // The date form of Retry-After is rare; our own backoff is good enough for it.
    let retry_after = text(headers, &header::RETRY_AFTER)
        .and_then(|seconds| seconds.parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    Failure::Transient {
        reason: format!("the server answered with HTTP status {status}"),
        retry_after,
    }
}

fn validators(headers: &HeaderMap) -> Version {
    Version {
        // A weak tag says nothing about bytes.
        etag: text(headers, &header::ETAG).filter(|etag| etag.starts_with('"')),
        last_modified: text(headers, &header::LAST_MODIFIED),
        total: None,
    }
}

fn text(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    // These go to a small file; a server has no reason to send more.
    (text.len() <= 1024).then(|| text.to_owned())
}

/// Start and total of `bytes START-END/TOTAL`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let range = text(headers, &header::CONTENT_RANGE)?;
    let (range, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((start.parse().ok()?, total))
}

/// Sorts the client's errors: a refused URL is final, all else may pass.
pub(super) fn failure(error: &reqwest::Error) -> Failure {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(UrlRefused(reason)) = current.downcast_ref() {
            return Error::InvalidUrl(reason.clone()).into();
        }
        cause = current.source();
    }
    Failure::transient(chain(error))
}

/// The causes of an error without its head, which names the URL.
fn chain(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(current) = cause {
        causes.push(current.to_string());
        cause = current.source();
    }
    if causes.is_empty() {
        "the request failed".to_owned()
    } else {
        causes.join(": ")
    }
}

fn refused_redirect(from: Option<&Url>, to: &Url, allow_local: bool) -> Option<String> {
    if !matches!(to.scheme(), "http" | "https") {
        Some(format!("it redirects to the scheme {}", to.scheme()))
    } else if to.scheme() == "http" && from.is_some_and(|from| from.scheme() == "https") {
        Some("it redirects from https to http".to_owned())
    } else {
        refused_host(to, allow_local)
    }
}

/// Hosts that are addresses never meet the resolver.
fn refused_host(url: &Url, allow_local: bool) -> Option<String> {
    let host = url.host_str()?;
    let address: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    (!allow_local && is_local(address)).then(|| refusal(address))
}

fn refusal(address: IpAddr) -> String {
    format!("the address {address} is only reachable from the node itself")
}

/// Addresses that mean the node itself or its link, where metadata services live.
fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0 || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            // AWS has its metadata service at this unique local address.
            let metadata = v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];
            v6.is_unspecified() || v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast() || metadata
        }
    }
}

struct Resolver {
    allow_local: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_local = self.allow_local;
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let mut good = addresses.clone();
            good.retain(|address| allow_local || !is_local(address.ip()));
            match (good.is_empty(), addresses.first()) {
                (true, Some(local)) => Err(UrlRefused(refusal(local.ip())).into()),
                _ => Ok(Box::new(good.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_node_and_its_link_are_local() {
        for local in [
            "127.0.0.1",
            "127.8.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "fd00:ec2::254",
        ] {
            assert!(is_local(local.parse().unwrap()), "{local}");
        }
        for other in ["10.0.0.1", "192.168.1.1", "203.0.113.9", "2001:db8::1", "fd00::1"] {
            assert!(!is_local(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn a_url_with_a_local_address_is_refused_in_every_spelling() {
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
        ] {
            assert!(refused_host(&parse(url).unwrap(), false).is_some(), "{url}");
            assert!(refused_host(&parse(url).unwrap(), true).is_none(), "{url}");
        }
    }

    #[test]
    fn a_redirect_may_not_lose_its_encryption_or_leave_http() {
        let (secure, plain) = (parse("https://host/").unwrap(), parse("http://host/").unwrap());
        assert!(refused_redirect(Some(&secure), &plain, false).is_some());
        assert!(refused_redirect(Some(&plain), &secure, false).is_none());
        assert!(refused_redirect(Some(&plain), &Url::parse("file:///etc/passwd").unwrap(), true).is_some());
    }

    #[test]
    fn content_ranges_are_read() {
        let headers = |text: &str| HeaderMap::from_iter([(header::CONTENT_RANGE, text.parse().unwrap())]);
        assert_eq!(content_range(&headers("bytes 5-9/10")), Some((5, Some(10))));
        assert_eq!(content_range(&headers("bytes 5-9/*")), Some((5, None)));
        for bad in ["bytes */10", "5-9/10", "bytes 5-9", "bytes a-9/10", ""] {
            assert_eq!(content_range(&headers(bad)), None, "{bad}");
        }
    }
}
