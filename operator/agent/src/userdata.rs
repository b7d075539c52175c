//! What does an Instance's Secret say to its guest?
//!
//! The agent can't read Secrets. It asks the controller, which answers only for Instances that are bound to its node.

use reqwest::StatusCode;
use virga_core::instance::USER_DATA_BYTES;

use crate::ask::{self, Ask};

/// Why user data could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret or its key doesn't exist.
    #[error("spec.userData.secretRef: {0}")]
    NotFound(String),
    /// More than the bound.
    #[error("spec.userData.secretRef: more than 64 KiB: have the guest fetch the rest from a URL")]
    TooLarge,
    /// The controller did not give it.
    #[error("fetching user data")]
    Ask(#[source] ask::Error),
}

/// The user data of an Instance that names a Secret.
pub async fn fetch(controller: &Ask, namespace: &str, name: &str) -> Result<Vec<u8>, Error> {
    let path = format!("userdata/{namespace}/{name}");
    let answer = controller.get(&path, USER_DATA_BYTES).await;
    answer.map_err(|error| match error {
        ask::Error::Refused {
            status: StatusCode::NOT_FOUND,
            message,
        } => Error::NotFound(message),
        ask::Error::TooLong(_) => Error::TooLarge,
        error => Error::Ask(error),
    })
}
