//! The lab, for real: these tests make and remove the machine's lab, take about a minute together, and need root and what
//! `cargo xtask deps` installs. They take turns by themselves.

// In tests a panic is the report.
#![allow(clippy::unwrap_used)]

mod cluster;
mod control_plane;
mod ovn;
mod remains;
mod support;
