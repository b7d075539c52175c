//! Which password does an Instance's Secret hold for its guest?
//!
//! It comes as [user data](crate::userdata) does, goes to the guest, and is kept nowhere.

use reqwest::StatusCode;
use virga_hypervisor::Password;

use crate::ask::{self, Ask};

/// The longest that is fetched, in bytes: what is longer is no password.
const MOST: usize = 1024;

/// Why a password could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret or its key doesn't exist.
    #[error("spec.adminPassword.secretRef: {0}")]
    NotFound(String),
    /// What is there can't be one.
    #[error(
        "spec.adminPassword.secretRef: what the Secret has is no password: 1 to {MOST} bytes of text on one line, without \
         a line's end"
    )]
    Unusable,
    /// The controller did not give it.
    #[error("fetching the password")]
    Ask(#[source] ask::Error),
}

/// The password of an Instance that names a Secret for it.
pub async fn fetch(controller: &Ask, namespace: &str, name: &str) -> Result<Password, Error> {
    let path = format!("adminpassword/{namespace}/{name}");
    let answer = controller.get(&path, MOST).await.map_err(|error| match error {
        ask::Error::Refused {
            status: StatusCode::NOT_FOUND,
            message,
        } => Error::NotFound(message),
        ask::Error::TooLong(_) => Error::Unusable,
        error => Error::Ask(error),
    })?;
    let text = String::from_utf8(answer).map_err(|_| Error::Unusable)?;
    Password::new(text).ok_or(Error::Unusable)
}
