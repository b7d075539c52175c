//! The client against real ovsdb-servers (Debian's openvswitch-common) with OVN's schema (ovn-central), against servers
//! that mean no good, and the reconciliation against a model.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod cluster;
mod hostile;
mod model;
mod outage;
mod ownership;
mod reconcile;
mod scale;
mod server;
mod spoiled;
mod tls;
mod transact;
mod world;
