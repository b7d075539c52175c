//! Who is let in? Only who has a certificate of our authority, with the name of a node in it. TLS 1.3 and nothing older.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};

use crate::{
    certificate::{self, Identity, node_of},
    name::NodeName,
};

/// The protocol that both sides speak; anything else ends the handshake.
const ALPN: &[u8] = b"http/1.1";

/// Why a certificate can't be used, or a peer is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bundle of trusted authorities can't be read.
    #[error("reading the trusted authorities")]
    Bundle(#[from] rustls::pki_types::pem::Error),
    /// Nobody would be trusted.
    #[error("there is no trusted authority")]
    NobodyTrusted(#[source] VerifierBuilderError),
    /// The key and the certificate can't be used.
    #[error("using a certificate")]
    Use(#[from] rustls::Error),
    /// The peer's certificate is not a node's.
    #[error("reading the peer's certificate")]
    Peer(#[from] certificate::Error),
    /// The peer showed none.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// The name can't be asked for in TLS.
    #[error("the node's name can't be used in TLS")]
    ServerName(#[from] rustls::pki_types::InvalidDnsNameError),
}

/// What both sides of this process use for TLS. Certificates are renewed while it runs: connections that are there go on
/// with the old one until they end.
#[derive(Debug)]
pub struct Credentials(RwLock<Arc<Current>>);

#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) node: NodeName,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

impl Credentials {
    /// This node's identity, and the authorities that are trusted, PEM.
    pub fn new(identity: &Identity, bundle: &str) -> Result<Self, Error> {
        Ok(Self(RwLock::new(Arc::new(Current::new(identity, bundle)?))))
    }

    /// Takes others from the next connection on.
    pub fn replace(&self, identity: &Identity, bundle: &str) -> Result<(), Error> {
        let next = Arc::new(Current::new(identity, bundle)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Which node this process is.
    pub fn node(&self) -> NodeName {
        self.current().node.clone()
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Current {
    fn new(identity: &Identity, bundle: &str) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(root?)?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(Error::NobodyTrusted)?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
        // A resumed session would not look at the certificates again.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        client.resumption = Resumption::disabled();
        server.alpn_protocols = vec![ALPN.to_vec()];
        client.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            node: identity.node.clone(),
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }
}

/// What the client asks for in TLS.
pub(crate) fn server_name(node: &NodeName) -> Result<ServerName<'static>, Error> {
    Ok(ServerName::try_from(node.dns_name())?)
}

/// Which node is at the other end? To be asked after the handshake, on both sides: rustls lets wildcards pass.
pub(crate) fn peer(certificates: Option<&[CertificateDer<'_>]>) -> Result<NodeName, Error> {
    let certificate = certificates.and_then(<[_]>::first).ok_or(Error::NoCertificate)?;
    Ok(node_of(certificate)?)
}
