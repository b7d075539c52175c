//! Why is an Instance or a Volume not as it should be?

use kube::ResourceExt;
use uuid::Uuid;
use virga_runtime::class::{Class, Classify};

use crate::effect;

/// Why an object is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its uid is no UUID, which the API server never makes.
    #[error("the uid {0:?} is no UUID")]
    Uid(String),
    /// An effect was not carried out.
    #[error("{effect}")]
    Effect {
        /// Which.
        effect: &'static str,
        /// Why.
        #[source]
        source: effect::Error,
    },
    /// The status could not be written.
    #[error(transparent)]
    Publish(#[from] virga_runtime::apply::Error),
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::Uid(_) => Class::Bug,
            Self::Effect { source, .. } => source.class(),
            // It was deleted in the meantime.
            Self::Publish(error) if error.is_not_found() => Class::Waiting,
            Self::Publish(error) => error.class(),
        }
    }
}

/// An object's uid, by which its domain and its files are called.
pub fn uid(object: &impl ResourceExt) -> Result<Uuid, Error> {
    let text = object.uid().unwrap_or_default();
    text.parse().map_err(|_| Error::Uid(text))
}
