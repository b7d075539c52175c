//! Why was an effect not carried out?

use std::io;

use virga_core::{instance::Failure, problem::Problems};
use virga_crds::conditions::Reason;
use virga_hypervisor::Kind;
use virga_images::disk;
use virga_runtime::class::{Class, Classify, chain};

use crate::{password, port, topology, userdata};

/// Why an effect on an Instance or a Volume was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that the plan had seen is gone again.
    #[error("{0}")]
    Gone(String),
    /// libvirt failed.
    #[error(transparent)]
    Hypervisor(#[from] virga_hypervisor::Error),
    /// A disk could not be made.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The seed could not be made.
    #[error(transparent)]
    Seed(#[from] virga_images::seed::Error),
    /// User data could not be had.
    #[error(transparent)]
    UserData(#[from] userdata::Error),
    /// A password could not be had.
    #[error(transparent)]
    Password(#[from] password::Error),
    /// The guest's agent did not do it.
    #[error("asking the agent in the guest")]
    Guest(#[source] virga_hypervisor::Error),
    /// A network could not be brought up.
    #[error(transparent)]
    Network(#[from] port::Error),
    /// The host's CPUs, pages or devices that it asks for could not be had.
    #[error("looking for its CPUs, pages and devices on the host")]
    Topology(#[from] topology::Error),
    /// Its Flavor and its image ask for a machine that can't be.
    #[error("its machine: {0}")]
    Machine(Problems),
    /// The API could not be written.
    #[error(transparent)]
    Api(#[from] virga_runtime::apply::Error),
    /// The node's file system said no.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why.
        source: io::Error,
    },
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::Hypervisor(error) if error.is_transient() => Class::Transient,
            // What is in the way may go: it is tried again.
            Self::Hypervisor(error) => match error.kind() {
                Kind::Invalid | Kind::Unsupported => Class::Bug,
                _ => Class::Transient,
            },
            Self::Seed(virga_images::seed::Error::Invalid { .. })
            | Self::UserData(userdata::Error::TooLarge)
            | Self::Machine(_) => Class::Invalid,
            Self::Network(error) if error.class() == Class::Bug => Class::Bug,
            Self::Api(error) => error.class(),
            Self::Topology(error) => error.class(),
            Self::Gone(_)
            | Self::Network(_)
            | Self::Disk(_)
            | Self::Seed(_)
            | Self::UserData(_)
            | Self::Io { .. }
            | Self::Password(_)
            | Self::Guest(_) => Class::Transient,
        }
    }
}

impl Error {
    /// What the file system said while this was being done.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// For the object's conditions.
    pub fn failure(&self) -> Failure {
        let (reason, stuck) = match self {
            Self::Hypervisor(error) | Self::Network(port::Error::Backend(virga_network::Error::Hypervisor(error))) => {
                match error.kind() {
                    Kind::Unavailable | Kind::Timeout | Kind::Busy => (Reason::LibvirtUnavailable, false),
                    _ => (Reason::HypervisorError, false),
                }
            }
            Self::Disk(error) if is_full(error) => (Reason::PoolFull, false),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => (Reason::PoolFull, false),
            Self::Gone(_) | Self::Api(_) => (Reason::Building, false),
            Self::Seed(virga_images::seed::Error::Invalid { .. }) | Self::UserData(userdata::Error::TooLarge) => {
                (Reason::Invalid, true)
            }
            Self::Topology(topology::Error::Shape(_)) | Self::Machine(_) => (Reason::Invalid, true),
            Self::Topology(topology::Error::Facts(_)) => (Reason::LibvirtUnavailable, false),
            Self::UserData(_) => (Reason::UserDataNotFound, false),
            Self::Password(_) => (Reason::PasswordNotFound, false),
            Self::Guest(error) if matches!(error.kind(), Kind::Busy | Kind::Timeout) => {
                (Reason::GuestAgentMissing, false)
            }
            Self::Network(port::Error::NotFound(_)) => (Reason::NetworkNotFound, false),
            Self::Network(_) => (Reason::NetworkNotReady, false),
            Self::Disk(_) | Self::Io { .. } | Self::Seed(_) | Self::Topology(_) | Self::Guest(_) => {
                (Reason::HypervisorError, false)
            }
        };
        Failure {
            reason,
            message: chain(self),
            stuck,
        }
    }
}

fn is_full(error: &disk::Error) -> bool {
    match error {
        disk::Error::Failed { stderr, .. } => stderr.contains("No space left"),
        disk::Error::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
        _ => false,
    }
}
