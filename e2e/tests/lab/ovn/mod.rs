//! Networks that OVN carries.
//!
//! These tests are in one module so that they follow each other: libvirt gives the networks over once.

mod hosts;
mod ipv6;
mod load_balancer;
mod migration;
mod outages;
mod plugin;
mod rates;
mod router;
mod samples;
mod scene;
mod security_groups;
