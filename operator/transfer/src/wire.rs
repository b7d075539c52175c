//! What goes over the wire beside the bytes themselves.

use std::fmt;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use virga_images::Digest;

/// The longest JSON text that a client reads. A full page of extents has about 50 KiB.
pub(crate) const MAX_ANSWER: usize = 256 * 1024;
/// The longest JSON text that a server reads.
pub(crate) const MAX_QUESTION: usize = 1024;
/// The longest name of a version.
pub(crate) const MAX_VERSION: usize = 80;

/// What is offered. Answer to `GET manifest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    /// In bytes, holes included.
    pub(crate) length: u64,
    /// How many bytes about are data. For progress only.
    pub(crate) allocated: u64,
    /// Changes when the file does. Goes into `If-Match`.
    pub(crate) version: String,
    /// Whether the file goes over to the receiver, or is copied.
    pub(crate) handover: bool,
}

/// The digest of the whole content. Answer to `GET digest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hashed {
    /// Not there while it is being computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<Digest>,
    /// How many bytes are hashed.
    pub(crate) hashed: u64,
}

/// What the receiver has. Body of `POST verified` and `POST complete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) digest: Digest,
}

/// Answer to `POST complete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Released {
    /// Always true: the source has let go, and has written that down.
    pub(crate) let_go: bool,
    /// Of what it has let go.
    pub(crate) digest: Digest,
}

/// Any answer that is not a good one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
}

/// Why the serving side refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Code {
    /// Nothing of that name is offered to this node with this token.
    NotOffered,
    /// The offer's time is over; it can be made anew.
    Expired,
    /// The offer was taken back; the source keeps what it has.
    Revoked,
    /// The file is not what it was when it was offered.
    Changed,
    /// The file was let go of and is not served any more.
    LetGo,
    /// The receiver has not said yet that what it has is good.
    NotVerified,
    /// The receiver has something else.
    DigestMismatch,
    /// It is a copy that is offered, which nobody lets go of.
    NotAHandover,
    /// The request makes no sense.
    BadRequest,
    /// The range is not in the file.
    BadRange,
    /// Later.
    Busy,
    /// The serving side could not read the file or write its ledger.
    Failed,
}

impl Code {
    /// Whether asking again may help.
    pub(crate) fn may_pass(self) -> bool {
        matches!(self, Self::Busy | Self::Failed)
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::NotOffered => StatusCode::NOT_FOUND,
            Self::Expired | Self::Revoked | Self::LetGo => StatusCode::GONE,
            Self::Changed => StatusCode::PRECONDITION_FAILED,
            Self::NotVerified | Self::DigestMismatch | Self::NotAHandover => StatusCode::CONFLICT,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::BadRange => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOffered => "nothing of that name is offered to this node with this token",
            Self::Expired => "the offer's time is over, make it anew",
            Self::Revoked => "the offer was taken back",
            Self::Changed => "the file changed after it was offered",
            Self::LetGo => "the file was let go of",
            Self::NotVerified => "the receiver has not verified what it has",
            Self::DigestMismatch => "the receiver has something else",
            Self::NotAHandover => "a copy is offered, there is nothing to let go of",
            Self::BadRequest => "the request makes no sense",
            Self::BadRange => "the range is not in the file",
            Self::Busy => "the source is busy",
            Self::Failed => "the source could not read the file or write its ledger; its log says why",
        })
    }
}
