//! What does a request ask for, and what is the answer?
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/offers/ID/manifest` | length, version, whether it is a hand-over |
//! | `GET /v1/offers/ID/extents?from=N` | where data is, a page at a time |
//! | `GET /v1/offers/ID/data` with `Range` and `If-Match` | bytes |
//! | `GET /v1/offers/ID/digest` | the digest of the whole, when it is there |
//! | `POST /v1/offers/ID/verified` | the receiver has this digest |
//! | `POST /v1/offers/ID/complete` | the source lets go |
//!
//! The first four with `/v1/digests/HEX` too, without a token.

use std::{ops::Range, sync::Arc};

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::{
    Shared,
    body::{self, Body, Source},
    pulse::Pulse,
};
use crate::{
    handover::{self, Asked},
    name::NodeName,
    offers::{Granted, Key},
    wire::{Claim, Code, MAX_QUESTION, Refusal, Released},
};

/// Answers one request of this peer.
pub(super) async fn answer(
    shared: &Shared,
    peer: &NodeName,
    pulse: &Pulse,
    request: Request<Incoming>,
) -> Response<Body> {
    // A body byte by byte is the peer's turn, too.
    pulse.peers_turn(shared.options.question);
    let answered = timeout(shared.options.handler, route(shared, peer, pulse, request)).await;
    let response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(code)) => refusal(code),
        Err(_) => refusal(Code::Busy),
    };
    pulse.peers_turn(shared.options.stall);
    response
}

enum What {
    Manifest,
    Extents,
    Data,
    Digest,
    Verified,
    Complete,
}

async fn route(
    shared: &Shared,
    peer: &NodeName,
    pulse: &Pulse,
    request: Request<Incoming>,
) -> Result<Response<Body>, Code> {
    let (key, what) = named(&request)?;
    let offers = shared.offers.shared();
    let is_post = matches!(what, What::Verified | What::Complete);
    if request.method() != (if is_post { Method::POST } else { Method::GET }) {
        return Err(Code::BadRequest);
    }
    if is_post {
        let Key::Offer(id, token) = key else {
            return Err(Code::NotAHandover);
        };
        let Claim { digest } = question(request).await?;
        pulse.our_turn();
        let complete = matches!(what, What::Complete);
        let asked = if complete {
            Asked::Complete(digest)
        } else {
            Asked::Verified(digest)
        };
        let peer = peer.clone();
        let state = blocking(move || offers.hand_over(&peer, &id, &token, asked)).await?;
        let let_go = matches!(state, handover::Source::LetGo { .. });
        return if complete && !let_go {
            Err(Code::NotVerified)
        } else {
            json(&Released { let_go, digest })
        };
    }
    pulse.our_turn();
    let granted = Arc::new(offers.granted(peer, key.clone())?);
    match what {
        What::Manifest => {
            granted.begin_hashing();
            json(&blocking(move || granted.manifest()).await?)
        }
        What::Extents => {
            let from = from(request.uri().query())?;
            json(&blocking(move || granted.extents(from)).await?)
        }
        What::Digest => json(&granted.digest(Instant::now() + shared.options.digest_wait).await?),
        What::Data | What::Verified | What::Complete => {
            let range = range(request.headers(), &granted)?;
            if let (Key::Offer(id, token), false) = (key, granted.is_noted()) {
                let peer = peer.clone();
                blocking(move || offers.hand_over(&peer, &id, &token, Asked::Read)).await?;
            }
            let opening = Arc::clone(&granted);
            let file = Arc::new(blocking(move || opening.open()).await?);
            Ok(bytes(shared, pulse, granted, file, range))
        }
    }
}

fn bytes(
    shared: &Shared,
    pulse: &Pulse,
    granted: Arc<Granted>,
    file: Arc<std::fs::File>,
    range: Range<u64>,
) -> Response<Body> {
    let length = granted.length();
    let source = Source {
        granted,
        file,
        bandwidth: shared.bandwidth.clone(),
        pulse: pulse.clone(),
        stall: shared.options.stall,
        read: shared.options.read,
    };
    let headers = [
        (
            header::CONTENT_RANGE,
            format!("bytes {}-{}/{length}", range.start, range.end - 1),
        ),
        (header::CONTENT_LENGTH, (range.end - range.start).to_string()),
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
    ];
    let mut response = Response::new(body::of_range(source, range));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    for (name, value) in headers {
        // Digits and plain words are always valid.
        response
            .headers_mut()
            .extend(value.parse().ok().map(|value| (name, value)));
    }
    response
}

/// What the request names. Only these shapes are read; what is in them is looked up in a table.
fn named(request: &Request<Incoming>) -> Result<(Key, What), Code> {
    let steps: Vec<&str> = request.uri().path().splitn(6, '/').collect();
    let ["", "v1", kind, name, what] = steps[..] else {
        return Err(Code::BadRequest);
    };
    let key = match kind {
        "offers" => {
            let token = request.headers().get(header::AUTHORIZATION);
            let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ")?.parse().ok());
            let id = name.parse().map_err(|_| Code::NotOffered)?;
            Key::Offer(id, token.ok_or(Code::NotOffered)?)
        }
        "digests" => Key::Digest(name.parse().map_err(|_| Code::NotOffered)?),
        _ => return Err(Code::BadRequest),
    };
    let what = match what {
        "manifest" => What::Manifest,
        "extents" => What::Extents,
        "data" => What::Data,
        "digest" => What::Digest,
        "verified" => What::Verified,
        "complete" => What::Complete,
        _ => return Err(Code::BadRequest),
    };
    Ok((key, what))
}

fn from(query: Option<&str>) -> Result<u64, Code> {
    let from = query.and_then(|query| query.strip_prefix("from=")?.parse().ok());
    from.ok_or(Code::BadRequest)
}

/// One range of the version that the receiver knows, and both must be said (RFC 9110, 14.2 and 13.1.1).
fn range(headers: &HeaderMap, granted: &Granted) -> Result<Range<u64>, Code> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let version = text(header::IF_MATCH).ok_or(Code::BadRequest)?;
    if version != format!("\"{}\"", granted.tag()) {
        return Err(Code::Changed);
    }
    let bounds = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let bounds = bounds.and_then(|(first, last)| Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?)));
    match bounds.ok_or(Code::BadRequest)? {
        (first, last) if first <= last && last < granted.length() => Ok(first..last + 1),
        _ => Err(Code::BadRange),
    }
}

async fn question(request: Request<Incoming>) -> Result<Claim, Code> {
    let body = Limited::new(request.into_body(), MAX_QUESTION).collect().await;
    let body = body.map_err(|_| Code::BadRequest)?.to_bytes();
    serde_json::from_slice(&body).map_err(|_| Code::BadRequest)
}

fn json(answer: &impl Serialize) -> Result<Response<Body>, Code> {
    let text = serde_json::to_vec(answer).map_err(|_| Code::Failed)?;
    let mut response = Response::new(body::whole(text));
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

fn refusal(code: Code) -> Response<Body> {
    // A refusal is two words in JSON, and always can be written.
    let mut response = json(&Refusal { code }).unwrap_or_else(|_| Response::new(body::whole(Vec::new())));
    *response.status_mut() = code.status();
    response
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Code> + Send + 'static) -> Result<T, Code> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Code::Failed))
}
