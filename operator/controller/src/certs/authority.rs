//! Who signs, who is trusted, and when does that change? Pure but for the making of keys: time comes in as an argument.
//!
//! The Secret holds a list of certificate authorities, oldest first. Every role follows from the list and the time, so
//! two replicas that read the same list do the same, and no step of a rotation has to be remembered:
//!
//! - all that have not expired are trusted;
//! - a new one is added when the newest has less than [`RENEW_BEFORE`] to live;
//! - a new one signs only when it has been trusted for [`OVERLAP`], which gives every client time to hear of it. The
//!   first one has nobody to wait for, and signs at once.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};

/// How long an authority is valid.
pub const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(180 * 24);
/// How long before the newest authority's end another one is made.
pub const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(60 * 24);
/// How long a new authority is trusted before it signs.
pub const OVERLAP: SignedDuration = SignedDuration::from_hours(24);
/// How long a leaf is valid; it is renewed after half of that.
pub const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Certificates are dated back by this much, for clients whose clocks are behind.
pub(super) const BACKDATE: SignedDuration = SignedDuration::from_hours(1);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret's list is not what this process writes.
    #[error("reading the list of authorities; delete the Secret and a new one is made")]
    List(#[from] serde_json::Error),
    /// A certificate or key in the list can't be used.
    #[error("reading the authority {name:?}; delete the Secret and a new one is made")]
    Pem {
        /// The authority.
        name: String,
        /// What is wrong.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A key could not be made or used.
    #[error("making a certificate")]
    Make(#[from] rcgen::Error),
    /// The list has no authority that is valid now.
    #[error("no authority is valid at {0}: is the clock right?")]
    NoneValid(Timestamp),
    /// The server can't use the certificate.
    #[error("using the certificate")]
    Use(#[from] rustls::Error),
}

/// One certificate authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    /// Its common name, different for each.
    name: String,
    /// Since when it is trusted.
    trusted_since: Timestamp,
    /// When it ends.
    expires: Timestamp,
    /// PEM.
    certificate: String,
    /// PEM, PKCS #8.
    key: String,
}

/// The certificate authorities, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Authorities(Vec<Authority>);

/// A certificate for this process's server, with its key. In memory only.
#[derive(Debug)]
pub struct Leaf {
    /// The chain: one certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// Who signed it.
    pub signer: String,
    /// When another one is due.
    pub renew_at: Timestamp,
}

impl Authorities {
    /// Reads a list, and checks that everything in it can be used.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let list: Self = serde_json::from_slice(bytes)?;
        for authority in &list.0 {
            let unusable = |source| Error::Pem {
                name: authority.name.clone(),
                source,
            };
            CertificateDer::from_pem_slice(authority.certificate.as_bytes()).map_err(unusable)?;
            PrivateKeyDer::from_pem_slice(authority.key.as_bytes()).map_err(unusable)?;
        }
        Ok(list)
    }

    /// The list as it is kept.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        Ok(serde_json::to_vec(self)?)
    }

    /// The list as it should be now; `None` when it is so already.
    pub fn due(&self, now: Timestamp) -> Result<Option<Self>, Error> {
        let mut list: Vec<Authority> = self
            .0
            .iter()
            .filter(|authority| authority.expires > now)
            .cloned()
            .collect();
        if list
            .last()
            .is_none_or(|newest| newest.expires < plus(now, RENEW_BEFORE))
        {
            list.push(Authority::make(now)?);
        }
        Ok((list != self.0).then_some(Self(list)))
    }

    /// The certificates of all that are trusted, as PEM.
    pub fn bundle(&self, now: Timestamp) -> String {
        let trusted = self.0.iter().filter(|authority| authority.expires > now);
        trusted.map(|authority| authority.certificate.as_str()).collect()
    }

    /// The one that signs: the newest that has been trusted for long enough, else the oldest.
    fn signer(&self, now: Timestamp) -> Option<&Authority> {
        let valid = || self.0.iter().filter(|authority| authority.expires > now);
        let settled = valid().rfind(|authority| plus(authority.trusted_since, OVERLAP) <= now);
        settled.or_else(|| valid().next())
    }

    /// What signs now, and when that ends.
    pub(super) fn issuer(&self, now: Timestamp) -> Result<(Issuer<'static, KeyPair>, Timestamp), Error> {
        let signer = self.signer(now).ok_or(Error::NoneValid(now))?;
        Ok((signer.issuer()?, signer.expires))
    }

    /// A new leaf for these DNS names; `None` while the present one will do.
    pub fn leaf(&self, present: Option<&Leaf>, names: &[String], now: Timestamp) -> Result<Option<Leaf>, Error> {
        let signer = self.signer(now).ok_or(Error::NoneValid(now))?;
        if present.is_some_and(|leaf| leaf.signer == signer.name && now < leaf.renew_at) {
            return Ok(None);
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = common_name(names.first().map_or("virga", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let expires = plus(now, LEAF_LIFE).min(signer.expires);
        set_validity(&mut params, now, expires);
        let certificate = params.signed_by(&key, &signer.issuer()?)?;
        Ok(Some(Leaf {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            signer: signer.name.clone(),
            renew_at: plus(now, expires.duration_since(now) / 2),
        }))
    }

    /// When something is due next: a leaf, another authority, the end of one.
    pub fn next_due(&self, leaf: &Leaf, now: Timestamp) -> Timestamp {
        let authorities = self.0.iter().flat_map(|authority| {
            [
                authority.expires,
                plus(authority.expires, -RENEW_BEFORE),
                plus(authority.trusted_since, OVERLAP),
            ]
        });
        authorities
            .chain([leaf.renew_at])
            .filter(|at| *at > now)
            .min()
            .unwrap_or(leaf.renew_at)
    }
}

impl Authority {
    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, Error> {
        let key = KeyPair::from_pem(&self.key)?;
        Ok(Issuer::new(authority_params(&self.name), key))
    }

    fn make(now: Timestamp) -> Result<Self, Error> {
        // Two that were made in the same second, by two replicas, must not have the same name.
        let name = format!("virga-webhook-ca-{}-{:08x}", now.as_second(), fastrand::u32(..));
        let key = KeyPair::generate()?;
        let expires = plus(now, AUTHORITY_LIFE);
        let mut params = authority_params(&name);
        set_validity(&mut params, now, expires);
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            name,
            trusted_since: now,
            expires,
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// What makes up an authority's identity: an issuer is built anew from its name and key.
fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    // X.520 bounds a common name at 64 characters.
    dn.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    dn
}

pub(super) fn plus(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.saturating_add(duration).unwrap_or(at)
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, expires: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = |at: Timestamp| Duration::from_secs(at.as_second().try_into().unwrap_or(0));
    params.not_before = epoch + seconds(plus(now, -BACKDATE));
    params.not_after = epoch + seconds(expires);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = [
        "virga-webhook.virga-system.svc",
        "virga-webhook-leader.virga-system.svc",
    ];

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn days(n: i64) -> SignedDuration {
        SignedDuration::from_hours(24 * n)
    }

    fn names() -> Vec<String> {
        NAMES.map(str::to_owned).to_vec()
    }

    /// Whether a client that trusts this bundle takes this leaf for the first of our names, at that time.
    fn trusts(bundle: &str, leaf: &Leaf, now: Timestamp) -> bool {
        use rustls::{client::WebPkiServerVerifier, client::danger::ServerCertVerifier, pki_types};
        virga_runtime::tls::install_crypto_provider();
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let verifier = WebPkiServerVerifier::builder(roots.into()).build().unwrap();
        let now = Duration::from_secs(now.as_second().unsigned_abs());
        NAMES.iter().all(|name| {
            let name = pki_types::ServerName::try_from(*name).unwrap();
            let at = pki_types::UnixTime::since_unix_epoch(now);
            verifier.verify_server_cert(&leaf.chain[0], &[], &name, &[], at).is_ok()
        })
    }

    #[test]
    fn a_client_trusts_the_leaf_for_each_name_and_no_longer_than_it_lives() {
        let list = Authorities::default().due(start()).unwrap().unwrap();
        let leaf = list.leaf(None, &names(), start()).unwrap().unwrap();
        let bundle = list.bundle(start());
        assert!(trusts(&bundle, &leaf, start()));
        assert!(
            trusts(&bundle, &leaf, start() - SignedDuration::from_mins(50)),
            "a clock that is behind"
        );
        assert!(!trusts(&bundle, &leaf, start() + days(8)));
        let other = Authorities::default().due(start()).unwrap().unwrap();
        assert!(!trusts(&other.bundle(start()), &leaf, start()));
    }

    #[test]
    fn at_any_time_the_leaf_in_use_is_trusted_by_bundles_that_are_a_day_old() {
        let mut list = Authorities::default();
        let mut leaf: Option<Leaf> = None;
        let mut bundles = Vec::new();
        let mut signers = std::collections::BTreeSet::new();
        for hour in (0..24 * 400).step_by(6) {
            let now = start() + SignedDuration::from_hours(hour);
            if let Some(next) = list.due(now).unwrap() {
                list = next;
            }
            if let Some(next) = list.leaf(leaf.as_ref(), &names(), now).unwrap() {
                leaf = Some(next);
            }
            bundles.push(list.bundle(now));
            let leaf = leaf.as_ref().unwrap();
            signers.insert(leaf.signer.clone());
            assert!(list.0.len() <= 2, "at most two are kept");
            // Four steps are the day for which a reader may be behind.
            let oldest = &bundles[bundles.len().saturating_sub(4)];
            assert!(trusts(oldest, leaf, now), "hour {hour}");
            assert!(leaf.renew_at > now || list.next_due(leaf, now) > now);
        }
        assert!(signers.len() >= 3, "{signers:?}");
    }

    #[test]
    fn nothing_is_due_while_all_is_fresh() {
        let list = Authorities::default().due(start()).unwrap().unwrap();
        let leaf = list.leaf(None, &names(), start()).unwrap().unwrap();
        let later = start() + days(1);
        assert!(list.due(later).unwrap().is_none());
        assert!(list.leaf(Some(&leaf), &names(), later).unwrap().is_none());
        assert_eq!(list.next_due(&leaf, later), leaf.renew_at);
        assert!(list.leaf(Some(&leaf), &names(), start() + days(4)).unwrap().is_some());
    }

    #[test]
    fn a_list_reads_back_and_a_broken_one_says_the_cure() {
        let list = Authorities::default().due(start()).unwrap().unwrap();
        assert_eq!(Authorities::parse(&list.encode().unwrap()).unwrap(), list);
        let broken = String::from_utf8(list.encode().unwrap())
            .unwrap()
            .replace("BEGIN PRIVATE", "BEGIN NO");
        for bytes in [broken.as_bytes(), b"{}", b""] {
            let error = Authorities::parse(bytes).unwrap_err().to_string();
            assert!(error.contains("delete the Secret"), "{error}");
        }
    }
}
