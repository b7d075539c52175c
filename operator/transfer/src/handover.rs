//! Who owns it? A disk that moves has one owner at every moment, whatever dies.
//!
//! Both sides write their state to disk before they say it. The source owns until it has written [`Source::LetGo`]; the
//! receiver owns from [`Receiver::Owned`] on, which it writes only when it has heard that the source let go. Between
//! the two the receiver has a verified copy on disk, and goes on to ask until it hears it: `complete` is idempotent, so
//! an answer that was lost is given again.
//!
//! ```text
//! source    Offered → Transferring → Verified → LetGo        Revoked: from all but LetGo
//! receiver  Partial → Verified → Owned                       Abandoned: from Partial, or when the source revoked
//! ```
//!
//! A receiver that has verified may not give up by itself: the source may have let go already, and the answer be lost.

use serde::{Deserialize, Serialize};
use virga_images::Digest;

/// What the source has written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state")]
pub enum Source {
    /// It may be fetched.
    Offered,
    /// It was asked for.
    Transferring,
    /// The receiver has proved that it has the content.
    Verified {
        /// Of the content.
        digest: Digest,
    },
    /// It is the receiver's. Whatever is left here may be removed.
    LetGo {
        /// Of the content.
        digest: Digest,
    },
    /// The offer was taken back.
    Revoked,
}

/// What the source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The receiver reads.
    Read,
    /// The receiver has verified this content.
    Verified(Digest),
    /// The receiver wants to own this content.
    Complete(Digest),
    /// The source's own cloud takes the offer back.
    Revoke,
}

/// Why the source does not do what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has let go already.
    #[error("it was let go of")]
    LetGo,
    /// The offer was taken back.
    #[error("the offer was taken back")]
    Revoked,
    /// The receiver has not verified.
    #[error("it is not verified")]
    NotVerified,
    /// The receiver has something else.
    #[error("the receiver has something else")]
    Mismatch,
}

impl Source {
    /// The state after a question; to be written down before the answer. `content` is the source's own digest, which
    /// only `Asked::Verified` needs.
    pub fn after(self, asked: Asked, content: Option<Digest>) -> Result<Self, Refused> {
        match (self, asked) {
            (Self::Revoked | Self::Offered | Self::Transferring | Self::Verified { .. }, Asked::Revoke) => {
                Ok(Self::Revoked)
            }
            (Self::Revoked, _) => Err(Refused::Revoked),
            (Self::LetGo { digest }, Asked::Verified(has) | Asked::Complete(has)) if has == digest => Ok(self),
            (Self::LetGo { .. }, Asked::Verified(_) | Asked::Complete(_)) => Err(Refused::Mismatch),
            (Self::LetGo { .. }, Asked::Read | Asked::Revoke) => Err(Refused::LetGo),
            // A receiver that reads again has lost what it had: what it once verified says nothing any more.
            (Self::Offered | Self::Transferring | Self::Verified { .. }, Asked::Read) => Ok(Self::Transferring),
            (Self::Offered | Self::Transferring | Self::Verified { .. }, Asked::Verified(has)) => {
                if content == Some(has) {
                    Ok(Self::Verified { digest: has })
                } else {
                    Err(Refused::Mismatch)
                }
            }
            (Self::Offered | Self::Transferring, Asked::Complete(_)) => Err(Refused::NotVerified),
            (Self::Verified { digest }, Asked::Complete(has)) => {
                if digest == has {
                    Ok(Self::LetGo { digest })
                } else {
                    Err(Refused::Mismatch)
                }
            }
        }
    }

    /// Whether the guest is the source's.
    pub fn owns(self) -> bool {
        !matches!(self, Self::LetGo { .. })
    }
}

/// What the receiver has written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state")]
pub enum Receiver {
    /// Some of it is here.
    Partial,
    /// All of it is here, durable, and has the source's digest.
    Verified {
        /// Of the content.
        digest: Digest,
    },
    /// The source has let go.
    Owned {
        /// Of the content.
        digest: Digest,
    },
    /// It is being removed.
    Abandoned,
}

/// What the receiver learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// What is here is whole, durable, and as the source has it.
    Whole(Digest),
    /// The source has let go of this content.
    LetGo(Digest),
    /// The source took the offer back.
    Revoked,
    /// The receiver's own cloud has changed its mind.
    GiveUp,
}

/// Why the receiver does not believe or do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The source may have let go, so this may be the only one.
    #[error("it is verified, so the source may have let go of it; only the source can say that it did not")]
    MayBeTheOnlyOne,
    /// It is owned.
    #[error("it is owned here")]
    Owned,
    /// It can't be in this state.
    #[error("it was not verified before")]
    OutOfTurn,
    /// The source let go of something else.
    #[error("the source let go of something else")]
    Mismatch,
}

impl Receiver {
    /// The state after what was heard; to be written down before anything is done about it.
    pub fn after(self, heard: Heard) -> Result<Self, Refusal> {
        match (self, heard) {
            (Self::Partial, Heard::Whole(digest)) => Ok(Self::Verified { digest }),
            (Self::Partial | Self::Abandoned, Heard::LetGo(_)) | (Self::Abandoned, Heard::Whole(_)) => {
                Err(Refusal::OutOfTurn)
            }
            (Self::Partial | Self::Abandoned, Heard::Revoked | Heard::GiveUp)
            | (Self::Verified { .. }, Heard::Revoked) => Ok(Self::Abandoned),
            (Self::Verified { digest }, Heard::Whole(again)) if again == digest => Ok(self),
            (Self::Verified { digest }, Heard::LetGo(of)) if of == digest => Ok(Self::Owned { digest }),
            (Self::Verified { .. }, Heard::Whole(_) | Heard::LetGo(_)) => Err(Refusal::Mismatch),
            (Self::Verified { .. }, Heard::GiveUp) => Err(Refusal::MayBeTheOnlyOne),
            (Self::Owned { digest }, Heard::LetGo(of)) if of == digest => Ok(self),
            (Self::Owned { .. }, _) => Err(Refusal::Owned),
        }
    }

    /// Whether the guest is the receiver's.
    pub fn owns(self) -> bool {
        matches!(self, Self::Owned { .. })
    }
}

#[cfg(test)]
mod tests;
