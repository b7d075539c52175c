//! How does the server answer?

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{Response, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A `Status` that says no.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
}

impl Failure {
    pub(crate) fn new(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            409 => "Conflict",
            410 => "Expired",
            415 => "UnsupportedMediaType",
            422 => "Invalid",
            429 => "TooManyRequests",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "InternalError",
        };
        Self {
            code,
            reason,
            message: message.into(),
        }
    }

    pub(crate) fn already_exists(message: impl Into<String>) -> Self {
        Self {
            reason: "AlreadyExists",
            ..Self::new(409, message)
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        })
    }
}

pub(crate) fn whole(code: u16, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync();
    Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .expect("a status code and a constant header make a response")
}

pub(crate) fn lines(stream: impl Stream<Item = Value> + Send + 'static) -> Response<Body> {
    let frames = stream.map(|line| Ok(http_body_frame(&line)));
    Response::new(StreamBody::new(frames).boxed_unsync())
}

fn http_body_frame(line: &Value) -> http_body::Frame<Bytes> {
    http_body::Frame::data(Bytes::from(format!("{line}\n")))
}
