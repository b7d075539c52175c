//! What every Virga process shares.
//!
//! | question | module |
//! |---|---|
//! | which flags does every process take? | [`flags`] |
//! | which TLS provider is in use? | [`tls`] |
//! | how does it log? | [`telemetry`] |
//! | what does it count? | [`metrics`] |
//! | is it alive and ready? | [`health`] |
//! | how does it talk to the API server? | [`client`] |
//! | what time is it? | [`clock`] |
//! | when does it stop, and in which order? | [`shutdown`] |
//! | who leads? | [`lease`] |
//! | is that node alive? | [`heartbeat`] |
//! | what does the cluster hold now? | [`watch`] |
//! | how does one kind's loop run? | [`reconcile`] |
//! | what else wakes that loop? | [`wake`] |
//! | what kind of failure is this? | [`class`] |
//! | how is an object written? | [`apply`] |
//! | how does a user hear of it? | [`events`] |
//!
//! Nothing here knows a Virga kind: everything is generic over [`kube::Resource`].

pub mod apply;
pub mod class;
pub mod client;
pub mod clock;
pub mod events;
pub mod flags;
pub mod health;
pub mod heartbeat;
pub mod lease;
pub mod metrics;
pub mod reconcile;
pub mod shutdown;
mod status;
pub mod telemetry;
pub mod tls;
pub mod wake;
pub mod watch;
