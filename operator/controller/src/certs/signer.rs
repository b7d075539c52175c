//! Whose certificates does the authority sign, beside its own server's? Those of nodes, for agents that serve files to
//! each other.
//!
//! The name in such a certificate is no Service's, so that a node can't pass for the webhook server.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use virga_runtime::clock::Clock;
use virga_transfer::{
    NodeName,
    certificate::{self, Validity, issue},
};

use super::authority::{Authorities, BACKDATE, Error as AuthorityError, LEAF_LIFE, plus};

/// Why a node's certificate was not signed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This process has not seen an authority yet.
    #[error("the certificate authority is not there yet: ask again")]
    NotYet,
    /// The authority can't be used.
    #[error("signing with the certificate authority")]
    Authority(#[from] AuthorityError),
    /// The request can't be signed.
    #[error("the request can't be signed")]
    Request(#[from] certificate::Error),
}

/// A node's certificate, and whom nodes trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// PEM.
    pub certificate: String,
    /// All authorities that are trusted, PEM.
    pub authorities: String,
}

/// Signs with what the [`super::Keeper`] saw last. Clones share it.
#[derive(Clone)]
pub struct Signer {
    authorities: Arc<RwLock<Option<Authorities>>>,
    clock: Arc<dyn Clock>,
}

impl Signer {
    /// One that has seen no authority yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            authorities: Arc::default(),
            clock,
        }
    }

    /// Signs with one of these from now on.
    pub fn know(&self, authorities: &Authorities) {
        *self.authorities.write().unwrap_or_else(PoisonError::into_inner) = Some(authorities.clone());
    }

    /// Signs a node's key. The caller knows that it is this node who asks; of the request only the key is used.
    pub fn sign(&self, request: &str, node: &NodeName) -> Result<Signed, Error> {
        let known = self.authorities.read().unwrap_or_else(PoisonError::into_inner).clone();
        sign(&known.ok_or(Error::NotYet)?, request, node, self.clock.now())
    }
}

fn sign(authorities: &Authorities, request: &str, node: &NodeName, now: Timestamp) -> Result<Signed, Error> {
    let (issuer, ends) = authorities.issuer(now)?;
    let validity = Validity {
        not_before: plus(now, -BACKDATE),
        not_after: plus(now, LEAF_LIFE).min(ends),
    };
    Ok(Signed {
        certificate: issue(request, node, &issuer, validity)?,
        authorities: authorities.bundle(now),
    })
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use virga_transfer::{certificate::NodeKey, tls::Credentials};

    use super::*;

    #[test]
    fn through_rotations_a_node_takes_its_certificate_with_the_bundle_that_came_with_it() {
        let node: NodeName = "node-1".parse().unwrap();
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut list = Authorities::default();
        let mut bundles = std::collections::BTreeSet::new();
        for day in (0..400).step_by(5) {
            let now = start + SignedDuration::from_hours(24 * day);
            if let Some(next) = list.due(now).unwrap() {
                list = next;
            }
            let key = NodeKey::generate().unwrap();
            let signed = sign(&list, &key.request(&node).unwrap(), &node, now).unwrap();
            let identity = key.identity(&node, &signed.certificate).unwrap();
            Credentials::new(&identity, &signed.authorities).unwrap();
            bundles.insert(signed.authorities);
        }
        assert!(bundles.len() > 3, "authorities came and went");
    }

    #[test]
    fn before_there_is_an_authority_nothing_is_signed() {
        let signer = Signer::new(Arc::new(virga_runtime::clock::SystemClock));
        let node: NodeName = "node-1".parse().unwrap();
        assert!(matches!(signer.sign("", &node), Err(Error::NotYet)));
        signer.know(&Authorities::default().due(Timestamp::now()).unwrap().unwrap());
        assert!(matches!(signer.sign("", &node), Err(Error::Request(_))));
    }
}
