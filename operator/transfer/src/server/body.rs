//! The bytes of a range, read piece by piece as the peer takes them.

use std::{fs::File, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;

use super::pulse::Pulse;
use crate::{bandwidth::Bandwidth, offers::Granted, wire::Code};

/// How much is read at a time.
const PIECE: usize = 128 * 1024;

/// What the server answers with.
pub(super) type Body = UnsyncBoxBody<Bytes, BrokenOff>;

/// The answer had begun when it could not go on; the connection ends, and the next request is told why.
#[derive(Debug, thiserror::Error)]
#[error("the answer was broken off: {0}")]
pub(super) struct BrokenOff(Code);

pub(super) fn whole(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes))
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// What a body is made of.
pub(super) struct Source {
    pub(super) granted: Arc<Granted>,
    pub(super) file: Arc<File>,
    pub(super) bandwidth: Bandwidth,
    pub(super) pulse: Pulse,
    /// How long the peer may take for a piece.
    pub(super) stall: Duration,
    /// How long a read may take.
    pub(super) read: Duration,
}

/// The bytes of this range.
pub(super) fn of_range(source: Source, range: Range<u64>) -> Body {
    let pieces = stream::try_unfold((source, range), async |(source, mut range)| {
        if range.is_empty() {
            return Ok(None);
        }
        source.pulse.our_turn();
        let len = usize::try_from(range.end - range.start).unwrap_or(PIECE).min(PIECE);
        source.bandwidth.take(len).await;
        let (granted, file, at) = (Arc::clone(&source.granted), Arc::clone(&source.file), range.start);
        let read = tokio::task::spawn_blocking(move || granted.read(&file, at, len));
        let piece = match tokio::time::timeout(source.read, read).await {
            Ok(Ok(piece)) => piece.map_err(BrokenOff)?,
            Ok(Err(_)) | Err(_) => return Err(BrokenOff(Code::Failed)),
        };
        range.start += len as u64;
        source.pulse.peers_turn(source.stall);
        Ok(Some((Frame::data(piece), (source, range))))
    });
    StreamBody::new(pieces).boxed_unsync()
}
