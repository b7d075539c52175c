//! How long is waited for what?

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

/// How long anything but a guest may take.
pub const BOUND: Duration = Duration::from_mins(1);

/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(200);

/// Looks until it is so; panics with the last reason when the bound has passed. Looks at least once.
pub async fn eventually<T>(what: &str, bound: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(reason) if began.elapsed() >= bound => {
                panic!("after {} s: not so: {what}\n{reason}", bound.as_secs())
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// A condition: status, reason, message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// True, False or Unknown.
    pub status: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The generation that it was said of.
    pub observed_generation: Option<i64>,
}

/// The condition of this type, of any kind of object.
pub fn condition(object: &impl Serialize, kind: &str) -> Option<Condition> {
    let object = serde_json::to_value(object).ok()?;
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some(Condition {
        status: text("status"),
        reason: text("reason"),
        message: text("message"),
        observed_generation: found["observedGeneration"].as_i64(),
    })
}

/// Whether it is Ready, and its status is of its spec as it is now.
pub fn is_ready<K: Serialize>(object: &K) -> bool {
    let value = serde_json::to_value(object).unwrap_or_default();
    let number = |path: &str| value.pointer(path).and_then(Value::as_i64);
    number("/metadata/generation") == number("/status/observedGeneration")
        && condition(object, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Whether it is not Ready for this reason, and the message has these words.
pub fn ready_because<K: Serialize>(reason: &str, words: &str) -> impl Fn(&K) -> bool {
    move |object| {
        condition(object, "Ready")
            .is_some_and(|ready| ready.status != "True" && ready.reason == reason && ready.message.contains(words))
    }
}
