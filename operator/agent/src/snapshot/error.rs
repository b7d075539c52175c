//! Why was an image of an Instance not made?

use std::io;

use virga_images::{
    cache::{self, Class},
    disk,
};

/// Why an image of an Instance was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is to be copied is not there, or not now.
    #[error("{0}")]
    NotThere(String),
    /// The guest agent did not make the file systems stand still.
    #[error("spec.source.instance.quiesce is Required, and the guest agent can't make the file systems stand still")]
    Quiesce(#[source] virga_hypervisor::Error),
    /// libvirt failed.
    #[error(transparent)]
    Hypervisor(#[from] virga_hypervisor::Error),
    /// QEMU gave the copy up.
    #[error("QEMU did not end the copy: {0}")]
    Copy(String),
    /// The copy took too long.
    #[error("the copy was not done within {} h", .0.as_secs() / 3600)]
    TooLong(std::time::Duration),
    /// The disk could not be copied.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The cache did not take it.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// The node's file system said no.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What the file system said while this was being done.
    pub fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// Whether trying again is no use.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Cache(error) if error.class() == Class::Invalid)
    }
}
