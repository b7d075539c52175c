//! The whole agent against a fake API server, a hypervisor in memory and a real data directory.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod actions;
mod crashes;
mod deeds;
mod devices;
mod health;
mod instances;
mod kills;
mod leader;
mod machines;
mod migrations;
mod nodes;
mod ovn;
mod peers;
mod resizes;
mod root_disks;
mod shared_networks;
mod shelving;
mod signer;
mod snapshots;
mod topology;
mod user_data;
mod verbs;
mod volumes;
mod walk;
mod world;
