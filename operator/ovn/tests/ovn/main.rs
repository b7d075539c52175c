//! From Networks and Ports to rows: snapshots, properties, and a real ovsdb-server with OVN's schema.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; clippy only knows that of functions marked as tests"
)]

mod balanced;
mod floating;
mod ipv6;
mod kept;
mod objects;
mod properties;
mod qos;
mod routed;
mod rows;
mod scale;
mod security_groups;
mod server;
mod shared;
mod traced;
mod trunks;
mod written;
