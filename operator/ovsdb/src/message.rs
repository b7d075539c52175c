//! One JSON-RPC 1.0 message: what is it, and how is ours written?

use serde_json::{Value as Json, json};

use crate::value::start_of;

/// Why a message is not JSON-RPC 1.0.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON.
    #[error("parsing a message")]
    Json(#[source] serde_json::Error),
    /// Neither a request, a notification nor a reply.
    #[error("expected a request, a notification or a reply, found {0}")]
    Shape(String),
}

/// A message from the peer.
#[derive(Debug, PartialEq)]
pub enum Message {
    /// It wants an answer.
    Request {
        /// To be given back.
        id: Json,
        /// What it wants.
        method: String,
        /// With what.
        params: Json,
    },
    /// It wants none.
    Notification {
        /// What it tells.
        method: String,
        /// About what.
        params: Json,
    },
    /// It answers one of our requests.
    Reply {
        /// Our request's; `None` if we never sent such a one.
        id: Option<u64>,
        /// The result, or the error.
        outcome: Result<Json, Json>,
    },
}

impl Message {
    /// Reads one.
    pub fn parse(frame: &[u8]) -> Result<Self, Error> {
        let mut json: Json = serde_json::from_slice(frame).map_err(Error::Json)?;
        let shape = |json: &Json| Error::Shape(start_of(json));
        let Some(members) = json.as_object_mut() else {
            return Err(shape(&json));
        };
        let mut take = |name: &str| members.remove(name).unwrap_or(Json::Null);
        let (id, method, params) = (take("id"), take("method"), take("params"));
        match (method, id) {
            (Json::String(method), Json::Null) => Ok(Self::Notification { method, params }),
            (Json::String(method), id) => Ok(Self::Request { id, method, params }),
            (Json::Null, id) if !id.is_null() => {
                let (result, error) = (take("result"), take("error"));
                Ok(Self::Reply {
                    id: id.as_u64(),
                    outcome: if error.is_null() { Ok(result) } else { Err(error) },
                })
            }
            (method, _) => Err(shape(&json!({ "method": method }))),
        }
    }
}

/// A request, as bytes.
pub fn request(id: u64, method: &str, params: &Json) -> Vec<u8> {
    json!({ "id": id, "method": method, "params": params })
        .to_string()
        .into_bytes()
}

/// A reply, as bytes.
pub fn reply(id: &Json, outcome: Result<&Json, &str>) -> Vec<u8> {
    let (result, error) = match outcome {
        Ok(result) => (result, Json::Null),
        Err(error) => (&Json::Null, json!(error)),
    };
    json!({ "id": id, "result": result, "error": error })
        .to_string()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_by_method_and_id() {
        let parse = |json: Json| Message::parse(json.to_string().as_bytes()).unwrap();
        assert_eq!(
            parse(json!({"id": null, "method": "update", "params": [1]})),
            Message::Notification {
                method: "update".into(),
                params: json!([1])
            }
        );
        assert_eq!(
            parse(json!({"id": "echo", "method": "echo", "params": []})),
            Message::Request {
                id: json!("echo"),
                method: "echo".into(),
                params: json!([])
            }
        );
        assert_eq!(
            parse(json!({"id": 3, "result": {}, "error": null})),
            Message::Reply {
                id: Some(3),
                outcome: Ok(json!({}))
            }
        );
        assert_eq!(
            parse(json!({"id": "3", "result": null, "error": "no"})),
            Message::Reply {
                id: None,
                outcome: Err(json!("no"))
            }
        );
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        for text in [
            r#"{"a":1}"#,
            r#"{"id":null,"result":1}"#,
            r#"{"method":3,"id":1}"#,
            "{",
            "{nan}",
        ] {
            assert!(Message::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
