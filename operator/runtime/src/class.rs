//! What kind of failure is this? One answer drives the requeue, the condition, the event, the metric's label and the
//! log level.

use std::error::Error as StdError;

/// What kind of failure an error is, which says who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The object asks for what cannot be. Its author must change it; trying again does not help.
    Invalid,
    /// Something that this object needs is not there yet. A watch, or a slow resync, brings it back.
    Waiting,
    /// The outside world failed. Trying again later may help.
    Transient,
    /// We are wrong: an answer that should never come, or a panic. Developers must act.
    Bug,
}

impl Class {
    /// The label of metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Waiting => "waiting",
            Self::Transient => "transient",
            Self::Bug => "bug",
        }
    }
}

/// An error that knows its [`Class`].
pub trait Classify: StdError {
    /// What kind of failure this is.
    fn class(&self) -> Class;
}

impl Classify for kube::Error {
    fn class(&self) -> Class {
        of_api(self)
    }
}

/// The class of an answer (or no answer) of the API server.
///
/// 400, 415 and 422 are [`Class::Bug`]: what we write must be right. 403 is [`Class::Transient`], because a namespace
/// that is going away and a role that is not there yet both answer so and both pass.
pub fn of_api(error: &kube::Error) -> Class {
    match error {
        kube::Error::Api(status) => match status.code {
            400 | 405 | 406 | 415 | 422 => Class::Bug,
            _ => Class::Transient,
        },
        kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) | kube::Error::FromUtf8(_) => Class::Bug,
        _ => Class::Transient,
    }
}

/// Whether the API server says that this object, or its namespace, doesn't exist.
///
/// The status code alone is no proof: an API server that has just started and does not serve our kinds yet answers 404
/// to every path of theirs. Only the reason `NotFound` names the object; kube's own `get_opt` takes both for absence.
pub fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == "NotFound")
}

/// An error and its sources in one line, outermost first. For the edge only: a log line or an event's note.
///
/// A source whose text the line already ends with is left out, since some crates print their source themselves.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn answer(code: u16) -> kube::Error {
        kube::Error::Api(Status::failure("no", "Reason").with_code(code).boxed())
    }

    #[test]
    fn only_the_reason_proves_that_an_object_is_gone() {
        let answer = |reason: &str| {
            kube::Error::Api(
                kube::core::Status::failure("404 page not found", reason)
                    .with_code(404)
                    .boxed(),
            )
        };
        assert!(is_gone(&answer("NotFound")));
        assert!(
            !is_gone(&answer("Failed to parse error data")),
            "an API server that does not serve the kind yet"
        );
    }

    #[test]
    fn what_we_wrote_wrongly_is_a_bug_and_the_rest_passes() {
        for code in [400, 415, 422] {
            assert_eq!(answer(code).class(), Class::Bug, "{code}");
        }
        for code in [401, 403, 404, 409, 429, 500, 503, 504] {
            assert_eq!(answer(code).class(), Class::Transient, "{code}");
        }
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("writing status")]
        struct Outer(#[source] kube::Error);

        let line = chain(&Outer(answer(503)));
        assert!(line.starts_with("writing status: "), "{line}");
        assert_eq!(line.matches("writing status").count(), 1);
    }
}
