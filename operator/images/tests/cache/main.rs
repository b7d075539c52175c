//! The image cache, on a real directory and with a real web server on loopback.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

mod adopted;
mod bench;
mod downloads;
mod files;
mod origin;
mod refusals;
mod tls;
