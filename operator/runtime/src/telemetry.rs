//! How does it log? To standard error, as text for people or JSON for collectors.
//!
//! Keys are the same everywhere: `controller, kind, namespace, name, uid, node, reason, error`. One `info` line per
//! change, `debug` per pass; `warn` for what will be tried again; `error` for what needs a person.

use std::io;

use tracing_subscriber::{EnvFilter, filter::ParseError, fmt, prelude::*, util::TryInitError};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// One line of text per event, for people.
    #[default]
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not in the syntax of `tracing_subscriber::EnvFilter`.
    #[error("reading the log filter {filter:?}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// Logging was started twice.
    #[error("installing the log subscriber")]
    Install(#[source] TryInitError),
}

/// Starts logging for the whole process.
///
/// `filter` has the syntax of `EnvFilter`, such as `info,virga_agent=debug`.
pub fn init(format: Format, filter: &str) -> Result<(), Error> {
    let parsed = EnvFilter::try_new(filter).map_err(|source| Error::Filter {
        filter: filter.into(),
        source,
    })?;
    let registry = tracing_subscriber::registry().with(parsed);
    let layer = fmt::layer().with_writer(io::stderr);
    match format {
        Format::Text => registry.with(layer).try_init(),
        Format::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    }
    .map_err(Error::Install)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_named_in_the_error() {
        let error = init(Format::Json, "virga=loud").unwrap_err();
        assert_eq!(error.to_string(), r#"reading the log filter "virga=loud""#);
    }
}
