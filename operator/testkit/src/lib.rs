//! An in-process Kubernetes API for tests, and a fake clock.
//!
//! [`FakeApi`] answers a real [`kube::Client`], so that a test drives the real controllers: lists, watches, writes with
//! field ownership, admission, faults. Under `#[tokio::test(start_paused = true)]` all is deterministic and takes no
//! time.
//!
//! What it does not do: validate against the schema (but prune and default), evaluate CEL, authorize. A real API server
//! shows those.

mod admit;
mod api;
mod ask;
mod check;
mod clock;
mod collection;
mod direct;
mod fault;
mod log;
mod managed;
mod path;
mod resource;
mod respond;
mod schema;
mod select;
mod serve;
mod store;
mod target;
mod watch;
mod write;

pub use api::FakeApi;
pub use clock::FakeClock;
pub use fault::Fault;
pub use log::{Request, Verb};
