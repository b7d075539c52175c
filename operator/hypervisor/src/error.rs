//! What can go wrong, by what the caller can do about it.

use std::fmt;
use std::time::Duration;

use crate::clean::clean;

/// The result of a hypervisor call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a hypervisor call did not do what was asked. The message is one line, cleaned, and says what was being done; it
/// can go into a condition as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The object does not exist (any more). For a removal that is success.
    #[error("{what} does not exist")]
    NotFound {
        /// The object.
        what: String,
    },
    /// Another object has the name, UUID, bridge or address range.
    #[error("{doing}: {message}")]
    AlreadyExists {
        /// What was being done.
        doing: String,
        /// What is in the way.
        message: String,
    },
    /// The object exists and is not ours: it is left alone.
    #[error("{what} is not managed by Virga, so it is left alone")]
    Foreign {
        /// The object.
        what: String,
    },
    /// There is no connection to the hypervisor, or it was lost in the middle: the call may or may not have been done.
    /// Retry later; events may have been missed.
    #[error("{doing}: the hypervisor is not reachable: {message}")]
    Unavailable {
        /// What was being done.
        doing: String,
        /// Why.
        message: String,
    },
    /// Something else holds the object, or a queue is full. Retry later.
    #[error("{doing}: busy: {message}")]
    Busy {
        /// What was being done.
        doing: String,
        /// What holds it.
        message: String,
    },
    /// No answer in time. The call may still be under way.
    #[error("{doing}: no answer within {waited:?}")]
    Timeout {
        /// What was being done.
        doing: String,
        /// How long the caller waited.
        waited: Duration,
    },
    /// The specification can't be right: repeating the call does not help.
    #[error("{doing}: {message}")]
    Invalid {
        /// What was being done.
        doing: String,
        /// What is wrong.
        message: String,
    },
    /// The object is not in a state that allows this. Look again.
    #[error("{doing}: {message}")]
    InvalidState {
        /// What was being done.
        doing: String,
        /// Why not.
        message: String,
    },
    /// This hypervisor can't do that.
    #[error("{doing}: not supported: {message}")]
    Unsupported {
        /// What was being done.
        doing: String,
        /// Why not.
        message: String,
    },
    /// Anything else that the hypervisor reported.
    #[error("{doing}: {message}")]
    Failed {
        /// What was being done.
        doing: String,
        /// The hypervisor's message, cleaned.
        message: String,
    },
}

/// The variants of [`Error`] without their text: for conditions' reasons and metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(
    missing_docs,
    reason = "each is documented at the variant of `Error` that has its name"
)]
pub enum Kind {
    NotFound,
    AlreadyExists,
    Foreign,
    Unavailable,
    Busy,
    Timeout,
    Invalid,
    InvalidState,
    Unsupported,
    Failed,
}

impl Error {
    /// Which variant it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::NotFound { .. } => Kind::NotFound,
            Error::AlreadyExists { .. } => Kind::AlreadyExists,
            Error::Foreign { .. } => Kind::Foreign,
            Error::Unavailable { .. } => Kind::Unavailable,
            Error::Busy { .. } => Kind::Busy,
            Error::Timeout { .. } => Kind::Timeout,
            Error::Invalid { .. } => Kind::Invalid,
            Error::InvalidState { .. } => Kind::InvalidState,
            Error::Unsupported { .. } => Kind::Unsupported,
            Error::Failed { .. } => Kind::Failed,
        }
    }

    /// Whether the object is missing: success for a removal.
    pub fn is_not_found(&self) -> bool {
        self.kind() == Kind::NotFound
    }

    /// Whether the same call can succeed later without anyone changing the specification.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind(),
            Kind::Unavailable | Kind::Busy | Kind::Timeout | Kind::InvalidState | Kind::Failed
        )
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Error {
        Error::NotFound { what: what.into() }
    }

    pub(crate) fn foreign(what: impl Into<String>) -> Error {
        Error::Foreign { what: what.into() }
    }

    pub(crate) fn unavailable(doing: impl Into<String>, message: &str) -> Error {
        Error::Unavailable {
            doing: doing.into(),
            message: clean(message),
        }
    }

    pub(crate) fn busy(doing: impl Into<String>, message: &str) -> Error {
        Error::Busy {
            doing: doing.into(),
            message: clean(message),
        }
    }

    pub(crate) fn invalid_state(doing: impl Into<String>, message: &str) -> Error {
        Error::InvalidState {
            doing: doing.into(),
            message: clean(message),
        }
    }

    pub(crate) fn already_exists(doing: impl Into<String>, message: &str) -> Error {
        Error::AlreadyExists {
            doing: doing.into(),
            message: clean(message),
        }
    }

    pub(crate) fn failed(doing: impl Into<String>, message: &str) -> Error {
        Error::Failed {
            doing: doing.into(),
            message: clean(message),
        }
    }

    pub(crate) fn invalid(doing: impl Into<String>, problems: &[Problem]) -> Error {
        let message = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Error::Invalid {
            doing: doing.into(),
            message,
        }
    }
}

/// One thing that is wrong with a specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, as in `disks[0].serial`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Collects the problems of a specification: all of them, so that one look is enough.
#[derive(Debug, Default)]
pub(crate) struct Problems(pub Vec<Problem>);

impl Problems {
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem {
            field: field.into(),
            message: message.into(),
        });
    }

    pub fn check(&mut self, ok: bool, field: impl Into<String>, message: impl Into<String>) {
        if !ok {
            self.add(field, message);
        }
    }

    pub fn into_result(self) -> Result<(), Vec<Problem>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}
