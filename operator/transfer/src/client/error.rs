//! Why does a transfer not come to its end?

use std::{error::Error as StdError, io, path::PathBuf};

use virga_images::Digest;

use crate::{handover::Refusal, name::NodeName, tls, wire::Code};

/// Why a file was not received, or not taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source does not give it.
    #[error("{node} refuses: {code}")]
    Refused {
        /// Who.
        node: NodeName,
        /// Why.
        code: Code,
    },
    /// The source does not keep to the protocol. It is broken, or somebody has taken it over.
    #[error("{node} does not keep to the protocol: {what}")]
    Protocol {
        /// Who.
        node: NodeName,
        /// What it does.
        what: String,
    },
    /// The source could not be reached, or broke off, too often in a row.
    #[error("{node} could not be reached in {attempts} attempts: {reason}")]
    Unreachable {
        /// Who.
        node: NodeName,
        /// How many there were without progress.
        attempts: u32,
        /// What happened at the last one.
        reason: String,
    },
    /// It took longer than the deadline allows. What came is kept.
    #[error("the transfer took too long; what came is kept, and it can go on")]
    TookTooLong,
    /// Somebody at the address is not who it should be.
    #[error("the peer is {found}, expected {expected}")]
    OtherNode {
        /// Who it is.
        found: NodeName,
        /// Who it should be.
        expected: NodeName,
    },
    /// This process's credentials, or the peer's.
    #[error("using TLS")]
    Tls(#[from] tls::Error),
    /// The file is longer than is acceptable.
    #[error("the file has {length} bytes, at most {limit} are taken")]
    TooLarge {
        /// Its length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The disk is too full.
    #[error("{needed} bytes are needed and {free} are free, of which {reserve} must stay free")]
    NoSpace {
        /// Bytes that are to come.
        needed: u64,
        /// Free bytes.
        free: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
    /// What came is not what the source has.
    #[error("what came has the digest {actual}, expected {expected}; it was removed")]
    DigestMismatch {
        /// The source's.
        expected: Digest,
        /// Ours.
        actual: Digest,
    },
    /// There is a file of that name that this transfer did not make.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// There is another transfer's file, verified, of which the source may have let go.
    #[error("{} was received from another offer and may be the only copy: complete that one first", .0.display())]
    OtherTransfer(PathBuf),
    /// The state does not allow it.
    #[error("{} can't be changed so", path.display())]
    State {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Refusal,
    },
    /// A verified file is not there any more. Nobody but its owner can have removed it.
    #[error("{} was verified and is gone", .0.display())]
    Lost(PathBuf),
    /// Another transfer to the same name is under way.
    #[error("another transfer to {} is under way", .0.display())]
    UnderWay(PathBuf),
    /// A file can't be read or written.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// A blocking task did not come to its end.
    #[error("a task of the transfer broke off")]
    BrokeOff,
}

impl Error {
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

/// How one attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It won't get better.
    Final(Error),
    /// It may work next time.
    Transient(String),
}

impl Failure {
    pub(super) fn transient(error: &(dyn StdError + 'static)) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        Self::Transient(reason)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}
