//! Why an image could not be had.

use std::{fmt::Display, io, path::PathBuf, sync::Arc};

use crate::{Digest, Format, inspect};

/// Why an image could not be had. The text is a sentence for the user who named the image; it never holds the URL,
/// which may carry a signature.
///
/// Cloneable, as all who wait for one download get the same answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not those that were promised.
    #[error("the checksum does not match: expected {expected}, the data has {actual}")]
    ChecksumMismatch {
        /// What the request said.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The server knows no such file (404 or 410).
    #[error("the server has no such file (HTTP status {status})")]
    NotFound {
        /// The HTTP status.
        status: u16,
    },
    /// The store directory has no such file.
    #[error("the node's store directory has no file {}", .0.display())]
    NoSuchFile(PathBuf),
    /// The server won't give the file to us (401, 403 and what else is final).
    #[error("the server refuses to give the file (HTTP status {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The server could not be reached, broke off, or was too slow, too often.
    #[error("the file could not be fetched in {attempts} attempts: {reason}")]
    Unreachable {
        /// How often it was tried since data last arrived.
        attempts: u32,
        /// The last failure.
        reason: String,
    },
    /// The data is a known other thing.
    #[error("the image is {what}; {cure}")]
    NotADiskImage {
        /// What it is.
        what: &'static str,
        /// What to do about it.
        cure: &'static str,
    },
    /// A qcow2 file that reads from another file.
    #[error("{}", inspect::Error::HasBackingFile)]
    HasBackingFile,
    /// Not usable for another reason, which the text names.
    #[error("{0}")]
    InvalidImage(String),
    /// The user's claim is wrong.
    #[error("the image is claimed to be {claimed}, but its content is {found}; correct the claim or the image")]
    FormatMismatch {
        /// What the user said.
        claimed: Format,
        /// What it is.
        found: &'static str,
    },
    /// More bytes than allowed, in the file or on the virtual disk.
    #[error("the image is too large: {what} has {size} bytes or more, at most {limit} are allowed")]
    TooLarge {
        /// The file or the virtual disk.
        what: &'static str,
        /// How large it is known to be, in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Fewer bytes than allowed.
    #[error("the image is too small: the file has {size} bytes, at least {limit} are expected")]
    TooSmall {
        /// Length of the file in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The node's disk is full, or would be.
    #[error(
        "the node has no space for the image: {needed} bytes are needed, {free} are free, {reserve} must stay free"
    )]
    NoSpace {
        /// Still to be written, in bytes; 0 when it is not known.
        needed: u64,
        /// Free in the cache's file system, in bytes.
        free: u64,
        /// What the options keep free, in bytes.
        reserve: u64,
    },
    /// The URL can't be used.
    #[error("the URL can't be used: {0}")]
    InvalidUrl(String),
    /// The path does not lead to a file in the store directory.
    #[error("the path {} can't be used: {reason}", .path.display())]
    InvalidPath {
        /// As requested.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The key is no file name.
    #[error("the key {0:?} can't be used, expected 1 to 63 letters, digits and dashes")]
    InvalidKey(String),
    /// The download was stopped by [`super::Cache::discard`], [`super::Cache::close`] or a changed request.
    #[error("the download was stopped")]
    Cancelled,
    /// Too many downloads are under way or waiting.
    #[error("{0} images are being fetched already")]
    Busy(usize),
    /// Another process uses the directory.
    #[error("another process uses the image cache {}", .0.display())]
    Locked(PathBuf),
    /// A cached file no longer has the bytes that its name promises.
    #[error("the cached image {expected} is damaged on disk, its bytes are now {actual}")]
    Damaged {
        /// Its name.
        expected: Digest,
        /// Its content.
        actual: Digest,
    },
    /// The cache holds no such image.
    #[error("the image {0} is not in the cache")]
    NotCached(Digest),
    /// The HTTP client could not be made.
    #[error("setting up the HTTP client: {0}")]
    Client(String),
    /// The node's file system said no.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why.
        source: Arc<io::Error>,
    },
}

/// Who has to act before it can work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The user: the image or the request is wrong. Trying again gives the same answer.
    Invalid,
    /// The node: space, or a free slot. Try again when something was freed.
    Waiting,
    /// Nobody: it may work next time.
    Transient,
}

impl Error {
    /// Who has to act.
    pub const fn class(&self) -> Class {
        match self {
            Self::ChecksumMismatch { .. }
            | Self::NotFound { .. }
            | Self::NoSuchFile(_)
            | Self::Refused { .. }
            | Self::NotADiskImage { .. }
            | Self::HasBackingFile
            | Self::InvalidImage(_)
            | Self::FormatMismatch { .. }
            | Self::TooLarge { .. }
            | Self::TooSmall { .. }
            | Self::InvalidUrl(_)
            | Self::InvalidPath { .. }
            | Self::InvalidKey(_) => Class::Invalid,
            Self::NoSpace { .. } | Self::Busy(_) | Self::Locked(_) => Class::Waiting,
            Self::Unreachable { .. }
            | Self::Cancelled
            | Self::Damaged { .. }
            | Self::NotCached(_)
            | Self::Client(_)
            | Self::Io { .. } => Class::Transient,
        }
    }

    /// Adds to an I/O error what was being done.
    pub(super) fn io(doing: impl Display) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing: doing.to_string(),
            source: Arc::new(source),
        }
    }

    /// Whether what has been fetched so far is of no use to a later attempt.
    pub(super) const fn spoils_the_part(&self) -> bool {
        !matches!(self, Self::Unreachable { .. } | Self::Cancelled | Self::Io { .. })
    }
}

impl From<inspect::Error> for Error {
    fn from(error: inspect::Error) -> Self {
        match error {
            inspect::Error::Read(source) => Self::io("inspecting the image")(source),
            inspect::Error::NotADisk(foreign) => foreign.into(),
            inspect::Error::HasBackingFile => Self::HasBackingFile,
            inspect::Error::FormatMismatch { claimed, found } => Self::FormatMismatch { claimed, found },
            other => Self::InvalidImage(other.to_string()),
        }
    }
}

impl From<inspect::Foreign> for Error {
    fn from(foreign: inspect::Foreign) -> Self {
        Self::NotADiskImage {
            what: foreign.name(),
            cure: foreign.cure(),
        }
    }
}
