//! With which certificates is a database reached, and which of its own does it have to show?

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem, pem::PemObject},
    server::ParsedCertificate,
};

/// Why certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing or holds no PEM of that kind.
    #[error("reading {what} from {path}")]
    Read {
        /// Certificate, key or authorities.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The file of authorities has none that can be used.
    #[error("{0} holds no certificate authority")]
    NoAuthority(PathBuf),
    /// Key and certificate don't fit, or the versions of TLS don't.
    #[error("using the certificate in {path}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// What of a server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerCheck {
    /// An authority of ours signed it, and it is for the host we asked for.
    #[default]
    Name,
    /// An authority of ours signed it, for whatever host. That is what OVN's own daemons check: certificates that
    /// `ovs-pki` makes name no host that there is. Only for an authority that signs nothing but OVN's certificates.
    Authority,
}

/// Certificates as PEM files. They are read at each connection, so that renewed ones are used without a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may sign the server's certificate.
    pub authorities: PathBuf,
    /// Our own certificate, with the chain to the authority that the server trusts.
    pub certificate: PathBuf,
    /// The key to it.
    pub key: PathBuf,
    /// What of the server's certificate is checked.
    pub check: ServerCheck,
}

impl TlsFiles {
    /// Reads the files. They are small and local: this blocks for less than a system call to a socket would.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(certificates("authorities", &self.authorities)?);
        if usable == 0 {
            return Err(Error::NoAuthority(self.authorities.clone()));
        }
        let chain = certificates("the certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(read_error("the key", &self.key))?;
        let unusable = |source| Error::Certificate {
            path: self.certificate.clone(),
            source,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match self.check {
            ServerCheck::Name => builder.with_root_certificates(roots),
            ServerCheck::Authority => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyHost { roots, provider })),
        };
        builder.with_client_auth_cert(chain, key).map_err(unusable)
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err(read_error(what, path)(pem::Error::NoItemsFound)),
        other => other.map_err(read_error(what, path)),
    }
}

fn read_error(what: &'static str, path: &Path) -> impl FnOnce(pem::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Read { what, path, source }
}

/// Everything that is usually checked, but not which host a certificate is for: `ovs-pki` writes names into them that no
/// host can have.
#[derive(Debug)]
struct AnyHost {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
