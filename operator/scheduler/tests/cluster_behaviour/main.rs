//! What callers rely on: one decision, one reservation, whatever the order of events; and an answer to why.

#![allow(clippy::unwrap_used, reason = "what can't be set up has failed")]

mod events;
mod explanations;
mod pins;
mod sweeps;
mod worlds;
