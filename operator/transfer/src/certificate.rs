//! Which node is it? Its certificate says so: asked for by the agent, signed by the controller, read by the other agent.
//!
//! The agent makes a key that never leaves it and asks with a certificate signing request (RFC 2986). Whoever signs
//! takes nothing from the request but the public key: the name comes from who asked, which the signer knows by other
//! means (the node in the token of the agent's Pod).

use std::{fmt, time::Duration};

use jiff::Timestamp;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest as _, Sha256};

use crate::name::{InvalidName, NodeName};

/// The longest request that is read, in bytes. Ours have about 500.
pub const MAX_REQUEST: usize = 8 * 1024;
/// X.520 bounds a common name.
const MAX_COMMON_NAME: usize = 64;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key or a certificate could not be made, or the request is not one.
    #[error("{doing}")]
    Make {
        /// What was being done.
        doing: &'static str,
        /// What is wrong.
        #[source]
        source: rcgen::Error,
    },
    /// The request is longer than [`MAX_REQUEST`].
    #[error("the signing request has {0} bytes, at most {MAX_REQUEST} are read")]
    TooLong(usize),
    /// The request is for a key of another kind.
    #[error("the signing request is for a key that is not ECDSA on P-256")]
    KeyKind,
    /// The text is not a certificate.
    #[error("reading a certificate")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// There is no certificate in it.
    #[error("there is no certificate in the text")]
    Empty,
    /// The certificate can't be read.
    #[error("reading the names in a certificate: {0}")]
    Unreadable(String),
    /// A certificate of a node has one DNS name, and this has another number.
    #[error("the certificate has {0} names, and a node's has one")]
    Names(usize),
    /// It has one name, and that is no node's.
    #[error("the certificate is not a node's")]
    Name(#[from] InvalidName),
    /// It is another node's.
    #[error("the certificate is of the node {found}, expected {expected}")]
    OtherNode {
        /// Whose it is.
        found: NodeName,
        /// Whose it should be.
        expected: NodeName,
    },
}

fn making(doing: &'static str) -> impl FnOnce(rcgen::Error) -> Error {
    move |source| Error::Make { doing, source }
}

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: Timestamp,
    /// The last.
    pub not_after: Timestamp,
}

/// An agent's key. It is in memory only; there is no way to read it out but as part of an [`Identity`].
pub struct NodeKey(KeyPair);

impl NodeKey {
    /// Makes a key: ECDSA on P-256.
    pub fn generate() -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(making("making a key"))?;
        Ok(Self(key))
    }

    /// The request for a certificate of this node, PEM.
    pub fn request(&self, node: &NodeName) -> Result<String, Error> {
        let mut params = CertificateParams::new(vec![node.dns_name()]).map_err(making("naming the node"))?;
        params.distinguished_name = common_name(node);
        let request = params
            .serialize_request(&self.0)
            .map_err(making("signing the request"))?;
        request.pem().map_err(making("encoding the request"))
    }

    /// This key with the certificate that came for it, PEM. The first one in the text must be the node's.
    pub fn identity(&self, node: &NodeName, chain: &str) -> Result<Identity, Error> {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let found = node_of(chain.first().ok_or(Error::Empty)?)?;
        if found != *node {
            let expected = node.clone();
            return Err(Error::OtherNode { found, expected });
        }
        Ok(Identity {
            node: found,
            chain,
            key: PrivateKeyDer::Pkcs8(self.0.serialize_der().into()),
        })
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

/// A node's key with its certificate. In memory only.
pub struct Identity {
    pub(crate) node: NodeName,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Whose it is.
    pub fn node(&self) -> &NodeName {
        &self.node
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.node)
    }
}

/// Signs a request, PEM, for this node. Pure: the same arguments make a certificate with the same contents. PEM.
///
/// Of the request only the public key is used, after its own signature proved that the asker has the private one. The
/// caller must know that it is `node` who asks, and must not sign beyond the end of the authority.
pub fn issue(
    request: &str,
    node: &NodeName,
    issuer: &Issuer<'_, KeyPair>,
    validity: Validity,
) -> Result<String, Error> {
    if request.len() > MAX_REQUEST {
        return Err(Error::TooLong(request.len()));
    }
    let request = CertificateSigningRequestParams::from_pem(request).map_err(making("reading the signing request"))?;
    if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
        return Err(Error::KeyKind);
    }
    let mut params = CertificateParams::new(vec![node.dns_name()]).map_err(making("naming the node"))?;
    params.distinguished_name = common_name(node);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Every agent serves and asks.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial(request.public_key.der_bytes(), node, validity));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = |at: Timestamp| Duration::from_secs(at.as_second().try_into().unwrap_or(0));
    params.not_before = epoch + seconds(validity.not_before);
    params.not_after = epoch + seconds(validity.not_after);
    let certificate = params
        .signed_by(&request.public_key, issuer)
        .map_err(making("signing a certificate"))?;
    Ok(certificate.pem())
}

/// Whose certificate is it? It must have exactly one DNS name, and no other name that somebody might go by.
pub fn node_of(certificate: &CertificateDer<'_>) -> Result<NodeName, Error> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|error| Error::Unreadable(error.to_string()))?;
    let names: Vec<&str> = parsed.valid_dns_names().take(2).collect();
    let uris = parsed.valid_uri_names().take(1).count();
    match names[..] {
        [name] if uris == 0 => Ok(NodeName::from_dns_name(name)?),
        _ => Err(Error::Names(names.len() + uris)),
    }
}

fn common_name(node: &NodeName) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    let name: String = node.as_str().chars().take(MAX_COMMON_NAME).collect();
    dn.push(DnType::CommonName, name);
    dn
}

/// Two certificates of one authority must not share a serial number (RFC 5280, 4.1.2.2), nor of one key.
fn serial(key: &[u8], node: &NodeName, validity: Validity) -> SerialNumber {
    let mut hasher = Sha256::new();
    hasher.update(key);
    hasher.update(node.as_str());
    hasher.update(validity.not_before.as_nanosecond().to_be_bytes());
    hasher.update(validity.not_after.as_nanosecond().to_be_bytes());
    let mut serial = hasher.finalize()[..16].to_vec();
    // Positive, and not zero.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    SerialNumber::from(serial)
}

#[cfg(test)]
mod tests {
    use rcgen::BasicConstraints;

    use super::*;

    fn issuer() -> Issuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Issuer::new(params, KeyPair::generate().unwrap())
    }

    fn validity() -> Validity {
        Validity {
            not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2026-01-08T00:00:00Z".parse().unwrap(),
        }
    }

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    #[test]
    fn the_signed_name_is_the_askers_and_not_the_requests() {
        let key = NodeKey::generate().unwrap();
        let request = key.request(&node("somebody-else")).unwrap();
        let signed = issue(&request, &node("node-1"), &issuer(), validity()).unwrap();
        let certificate = CertificateDer::from_pem_slice(signed.as_bytes()).unwrap();
        assert_eq!(node_of(&certificate).unwrap(), node("node-1"));
        assert!(key.identity(&node("node-1"), &signed).is_ok());
        let other = key.identity(&node("somebody-else"), &signed).unwrap_err();
        assert!(matches!(other, Error::OtherNode { .. }), "{other}");
    }

    #[test]
    fn a_request_that_was_changed_or_is_something_else_is_refused() {
        let request = NodeKey::generate().unwrap().request(&node("node-1")).unwrap();
        let mut forged = rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(request.as_bytes())
            .unwrap()
            .to_vec();
        // The name's last letter, which the signature covers.
        let at = forged.windows(6).position(|window| window == b"node-1").unwrap() + 5;
        forged[at] = b'2';
        let refused = CertificateSigningRequestParams::from_der(&forged.into());
        assert!(matches!(
            refused,
            Err(rcgen::Error::InvalidCertificationRequestSignature)
        ));
        for text in ["", "no pem", &"x".repeat(MAX_REQUEST + 1)] {
            assert!(issue(text, &node("node-1"), &issuer(), validity()).is_err());
        }
        let foreign = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let foreign = CertificateParams::default().serialize_request(&foreign).unwrap();
        let refused = issue(&foreign.pem().unwrap(), &node("node-1"), &issuer(), validity());
        assert!(matches!(refused, Err(Error::KeyKind)));
    }

    #[test]
    fn a_certificate_with_other_names_beside_is_no_nodes() {
        let key = KeyPair::generate().unwrap();
        let with = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            CertificateParams::new(names).unwrap().self_signed(&key).unwrap()
        };
        assert!(node_of(with(&["a.agents.virga.dev"]).der()).is_ok());
        for names in [
            &[][..],
            &["a.agents.virga.dev", "b.agents.virga.dev"],
            &["virga-webhook.virga-system.svc"],
            &["*.agents.virga.dev"],
        ] {
            assert!(node_of(with(names).der()).is_err(), "{names:?}");
        }
    }

    #[test]
    fn certificates_of_one_key_have_serials_of_their_own() {
        let later = Validity {
            not_after: "2026-01-09T00:00:00Z".parse().unwrap(),
            ..validity()
        };
        let one = serial(b"key", &node("a"), validity());
        assert_ne!(one, serial(b"key", &node("a"), later));
        assert_ne!(one, serial(b"key", &node("b"), validity()));
        assert_eq!(one, serial(b"key", &node("a"), validity()));
    }
}
