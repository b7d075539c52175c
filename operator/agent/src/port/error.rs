//! Why is a network not as it should be?

use kube::ResourceExt;
use uuid::Uuid;
use virga_core::problem::Problems;
use virga_runtime::class::{Class, Classify};

/// Why a network is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such Network.
    #[error("there is no Network {0}")]
    NotFound(String),
    /// The Network's spec breaks a rule.
    #[error("the Network {name} can't be used: {problems}")]
    Invalid {
        /// Its name.
        name: String,
        /// What is wrong.
        problems: Problems,
    },
    /// An object's uid is no UUID, or a Port can't be read.
    #[error("the {what} can't be read")]
    Unreadable {
        /// Which object, and what of it.
        what: String,
    },
    /// The back end failed.
    #[error(transparent)]
    Backend(#[from] virga_network::Error),
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::NotFound(_) => Class::Waiting,
            Self::Unreadable { .. } => Class::Bug,
            Self::Backend(error) if error.is_transient() => Class::Transient,
            Self::Invalid { .. } | Self::Backend(_) => Class::Invalid,
        }
    }
}

/// An object's uid, by which the back end calls its part.
pub(super) fn uuid<K: ResourceExt + kube::Resource<DynamicType = ()>>(object: &K) -> Result<Uuid, Error> {
    let uid = object.uid().unwrap_or_default();
    uid.parse().map_err(|_| Error::Unreadable {
        what: format!("uid of {} {}", K::kind(&()), object.name_any()),
    })
}
