//! Filters, weighers and reservations as pure functions, with Nova's semantics.
//!
//! This crate answers one question: on which host does an Instance run? It has no client, no clock and no I/O. Time
//! comes in as a [`Duration`](std::time::Duration) since an epoch of the caller's choice.
//!
//! - [`Cluster`] is the index of hosts, placements and reservations. [`Cluster::schedule`] filters, weighs, picks and
//!   reserves in one step, so two requests can never be promised the same room.
//! - [`filters`] and [`weighers`] hold one small file a rule, named as Nova names it. A [`Profile`] says which of them
//!   are in use, in which order and with which multipliers.
//! - [`Refusal`] says why no host was found, counted per filter. [`Placement`] says which host was.
//! - [`Waiting`] keeps the requests that found no host and tells which are worth another try after an [`Event`].

mod allocation;
mod aspects;
mod cluster;
mod decide;
mod event;
pub mod filters;
mod groups;
mod host;
mod hosts;
mod outcome;
mod profile;
mod ratio;
mod request;
mod resources;
mod uid;
mod waiting;
pub mod weighers;

#[cfg(test)]
mod fixtures;

pub use aspects::Aspects;
pub use cluster::{Binding, Cluster, Settings, Usage};
pub use decide::Ask;
pub use event::Event;
pub use host::{Host, Limit, Ratios, Scheduling};
pub use hosts::{Candidate, Spare};
pub use outcome::{Detail, Placement, Refusal, Rejection, Weighed};
pub use profile::{Profile, ProfileError, ProfileSpec, Strategy, WeigherSpec};
pub use ratio::{Ratio, RatioError};
pub use request::{Group, OnlyHosts, Policy, Request};
pub use resources::Resources;
pub use uid::Uid;
pub use waiting::{Backoff, Cause, Waiting};
