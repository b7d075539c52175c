//! Where is a database, and how is a stream to it opened?

use std::{fmt, io, net::IpAddr, path::PathBuf, str::FromStr, sync::Arc};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use crate::tls::{self, TlsFiles};

/// One place where a database is served, written as OVSDB's tools write it: `unix:/run/ovn/ovnnb_db.sock`,
/// `tcp:10.0.0.1:6641`, `ssl:ovn-nb.example.org:6641`, `ssl:[2001:db8::1]:6641`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Remote {
    /// A Unix socket.
    Unix(PathBuf),
    /// TCP in the clear.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// TCP with TLS.
    Ssl {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
}

/// Why a text names no remote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no remote: expected unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT, with an IPv6 address in brackets")]
pub struct ParseError {
    text: String,
}

/// Why no stream could be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer can't be reached.
    #[error("connecting to {remote}")]
    Connect {
        /// Which.
        remote: Remote,
        /// Why.
        source: io::Error,
    },
    /// TLS could not be agreed on: certificates, most often.
    #[error("agreeing on TLS with {remote}")]
    Handshake {
        /// Which.
        remote: Remote,
        /// Why.
        source: io::Error,
    },
    /// Our own certificates can't be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// A remote is `ssl:`, and no certificates are configured.
    #[error("{0} wants TLS, and no certificates are configured")]
    NoCertificates(Remote),
    /// A host that can't be in a certificate.
    #[error("{0} names a host that no certificate can hold")]
    Name(Remote),
}

/// A stream in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl FromStr for Remote {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = || ParseError { text: text.to_owned() };
        let (method, rest) = text.split_once(':').ok_or_else(fail)?;
        if method == "unix" && !rest.is_empty() {
            return Ok(Self::Unix(rest.into()));
        }
        let (host, port) = rest.rsplit_once(':').ok_or_else(fail)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(fail)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) if inner.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) => inner,
            None if !host.is_empty() && !host.contains([':', '[', ']', '/', ' ']) => host,
            _ => return Err(fail()),
        };
        let host = host.to_owned();
        match method {
            "tcp" => Ok(Self::Tcp { host, port }),
            "ssl" => Ok(Self::Ssl { host, port }),
            _ => Err(fail()),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, host, port) = match self {
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } => ("tcp", host, port),
            Self::Ssl { host, port } => ("ssl", host, port),
        };
        if host.contains(':') {
            write!(f, "{method}:[{host}]:{port}")
        } else {
            write!(f, "{method}:{host}:{port}")
        }
    }
}

impl Remote {
    /// Opens a stream. The caller limits the time.
    pub(crate) async fn open(&self, certificates: Option<&TlsFiles>) -> Result<Box<dyn Stream>, Error> {
        let connect = |source| Error::Connect {
            remote: self.clone(),
            source,
        };
        let (host, port) = match self {
            Self::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await.map_err(connect)?)),
            Self::Tcp { host, port } | Self::Ssl { host, port } => (host.as_str(), *port),
        };
        let stream = TcpStream::connect((host, port)).await.map_err(connect)?;
        // Transactions are small and are waited for.
        stream.set_nodelay(true).map_err(connect)?;
        if matches!(self, Self::Tcp { .. }) {
            return Ok(Box::new(stream));
        }
        let certificates = certificates.ok_or_else(|| Error::NoCertificates(self.clone()))?;
        // Read anew each time: certificates are renewed while we run.
        let config = certificates.client_config()?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::Name(self.clone()))?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|source| Error::Handshake {
                remote: self.clone(),
                source,
            })?;
        Ok(Box::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_are_written_as_ovsdb_tools_write_them() {
        for text in [
            "unix:/run/ovn/ovnnb_db.sock",
            "tcp:10.0.0.1:6641",
            "ssl:ovn-nb.example.org:6641",
            "ssl:[2001:db8::1]:6641",
        ] {
            assert_eq!(text.parse::<Remote>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_names_no_remote_is_refused() {
        for text in [
            "",
            "unix:",
            "tcp:6641",
            "tcp::6641",
            "tcp:h:0",
            "tcp:h:x",
            "tcp:2001:db8::1:6641",
            "ssl:[10.0.0.1]:1",
            "ptcp:6641:0",
            "tcp:h:99999",
        ] {
            assert!(text.parse::<Remote>().is_err(), "{text}");
        }
    }
}
