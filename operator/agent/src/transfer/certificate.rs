//! How does this host prove to others which node it is? With a key of its own that the controller signs.

use serde::Deserialize;
use virga_transfer::{
    InvalidName,
    certificate::{self, Identity, NodeKey},
};

use crate::ask::{self, Ask};

/// A certificate has about 1 KiB, and there are few authorities.
const ANSWER_BYTES: usize = 64 * 1024;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the node can have no certificate")]
    Node(#[from] InvalidName),
    #[error("making the node's certificate")]
    Certificate(#[from] certificate::Error),
    #[error("having the node's key signed")]
    Ask(#[from] ask::Error),
    #[error("having the node's key signed: the answer can't be read")]
    Answer(#[from] serde_json::Error),
}

impl Error {
    /// Whether asking again is no use.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Node(_) | Self::Ask(ask::Error::NoController))
    }
}

#[derive(Deserialize)]
struct Signed {
    certificate: String,
    authorities: String,
}

/// A new key with its certificate, and whom to trust, PEM.
pub(super) async fn signed(controller: &Ask, node: &str) -> Result<(Identity, String), Error> {
    let node = node.parse()?;
    let key = NodeKey::generate()?;
    let answer = controller
        .post("certificate", key.request(&node)?, ANSWER_BYTES)
        .await?;
    let Signed {
        certificate,
        authorities,
    } = serde_json::from_slice(&answer)?;
    Ok((key.identity(&node, &certificate)?, authorities))
}
