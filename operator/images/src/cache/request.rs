//! What somebody wants to have in the cache.

use std::path::{Component, PathBuf};

use reqwest::Url;

use super::Error;
use crate::{
    Digest, Format,
    inspect::{Inspection, MAX_VIRTUAL_SIZE},
};

/// An image that should be in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks: the Image's UID. One key has one download at a time, and a part of its own on disk.
    pub key: String,
    /// Where the data comes from.
    pub source: Source,
    /// The digest that the data must have.
    pub sha256: Option<Digest>,
    /// The format that the user claims.
    pub format: Option<Format>,
    /// What sizes are acceptable.
    pub limits: Limits,
}

/// Where an image's data comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// An `http` or `https` URL.
    Http {
        /// The URL. It may carry a signature, so it is never logged nor written to disk.
        url: String,
    },
    /// A file in the node's store directory, relative to it, without `..`.
    Path(PathBuf),
}

/// What sizes are acceptable, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The smallest file.
    pub min_size: u64,
    /// The largest file. The cache's own limits hold as well.
    pub max_size: u64,
    /// The largest virtual disk.
    pub max_virtual_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            min_size: 0,
            max_size: u64::MAX,
            max_virtual_size: MAX_VIRTUAL_SIZE,
        }
    }
}

/// A source that has been checked.
pub(super) enum CheckedSource {
    Http(Url),
    Path(PathBuf),
}

impl Request {
    /// Checks what can be checked without looking anywhere.
    pub(super) fn check(&self) -> Result<CheckedSource, Error> {
        let in_key = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !(1..=63).contains(&self.key.len()) || !self.key.bytes().all(in_key) || self.key.starts_with('-') {
            return Err(Error::InvalidKey(self.key.chars().take(64).collect()));
        }
        match &self.source {
            Source::Http { url } => super::http::parse(url).map(CheckedSource::Http),
            Source::Path(path) => {
                let plain = path
                    .components()
                    .all(|component| matches!(component, Component::Normal(_)));
                if plain && path.components().next().is_some() {
                    Ok(CheckedSource::Path(path.clone()))
                } else {
                    let reason = "it must be relative to the store directory and hold no `..`";
                    Err(Error::InvalidPath {
                        path: path.clone(),
                        reason,
                    })
                }
            }
        }
    }

    /// Names who asked and for what, without giving the URL away. A part or an entry with the same origin may be used
    /// again.
    pub(super) fn origin(&self) -> String {
        let source = match &self.source {
            Source::Http { url } => format!("http {url}"),
            Source::Path(path) => format!("path {}", path.display()),
        };
        format!("{} {}", self.key, Digest::of(source.as_bytes()).hex())
    }

    /// Whether a good image is also the wanted one.
    pub(super) fn accepts(&self, found: &Inspection) -> Result<(), Error> {
        self.limits.accept(self.format, found)
    }
}

impl Limits {
    /// Whether a good image is of the claimed format, and no larger or smaller than it may be.
    pub(super) fn accept(&self, claimed: Option<Format>, found: &Inspection) -> Result<(), Error> {
        if let Some(claimed) = claimed
            && claimed != found.format
        {
            return Err(Error::FormatMismatch {
                claimed,
                found: found.format.as_str(),
            });
        }
        if found.size < self.min_size {
            return Err(Error::TooSmall {
                size: found.size,
                limit: self.min_size,
            });
        }
        at_most("the file", found.size, self.max_size)?;
        at_most("the virtual disk", found.virtual_size, self.max_virtual_size)
    }
}

pub(super) const fn at_most(what: &'static str, size: u64, limit: u64) -> Result<(), Error> {
    if size > limit {
        Err(Error::TooLarge { what, size, limit })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: &str, source: Source) -> Request {
        Request {
            key: key.to_owned(),
            source,
            sha256: None,
            format: None,
            limits: Limits::default(),
        }
    }

    #[test]
    fn keys_and_paths_that_could_leave_their_directory_are_refused() {
        let path = |path: &str| Source::Path(path.into());
        for key in ["", "..", "a/b", "a.part", "-a", &"a".repeat(64)] {
            assert!(
                matches!(request(key, path("a")).check(), Err(Error::InvalidKey(_))),
                "{key}"
            );
        }
        for bad in ["", "/etc/passwd", "../a", "a/../../b", "./a"] {
            assert!(
                matches!(request("a", path(bad)).check(), Err(Error::InvalidPath { .. })),
                "{bad}"
            );
        }
        assert!(request("a", path("debian/13.qcow2")).check().is_ok());
    }

    #[test]
    fn urls_of_other_schemes_are_refused() {
        for url in [
            "file:///etc/passwd",
            "ftp://host/a",
            "no url",
            "http://",
            "gopher://host",
        ] {
            let source = Source::Http { url: url.to_owned() };
            assert!(
                matches!(request("a", source).check(), Err(Error::InvalidUrl(_))),
                "{url}"
            );
        }
    }

    #[test]
    fn an_origin_does_not_give_the_url_away() {
        let source = Source::Http {
            url: "https://host/a?signature=secret".to_owned(),
        };
        assert!(!request("a", source).origin().contains("secret"));
    }
}
