//! Bytes from host to host, over real sockets and files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod admission;
mod hostile_receiver;
mod hostile_source;
mod kills;
mod moves;
mod stage;
