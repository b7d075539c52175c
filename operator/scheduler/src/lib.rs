//! Filters, weighers and reservations as pure functions, with Nova's semantics.
//!
//! This crate answers one question: on which host does an Instance run? It has no client, no clock and no I/O. Time
//! comes in as a [`Duration`](std::time::Duration) since an epoch of the caller's choice.
//!
//! - [`Cluster`] is the index of hosts, aggregates, placements and reservations. [`Cluster::schedule`] filters, weighs,
//!   picks and reserves in one step, so two requests can never be promised the same room.
//! - [`filters`] and [`weighers`] hold one small file a rule, named as Nova names it. A [`Profile`] says which of them
//!   are in use, in which order and with which multipliers and [`Options`]. What Nova leaves to Placement is filters
//!   here too, and no profile goes without them.
//! - [`Cluster::explanation`] says why the last decision for an Instance came out as it did, [`Cluster::explain`] what
//!   every single host says to a request.
//! - [`Refusal`] says why no host was found, counted per filter. [`Placement`] says which host was.
//! - [`Waiting`] keeps the requests that found no host and tells which are worth another try after an [`Event`].

mod aggregate;
mod allocation;
mod ask;
mod aspects;
mod attribute;
mod bits;
mod bound;
mod candidate;
mod classes;
mod cluster;
mod cohort;
mod column;
mod comparison;
mod decide;
mod demands;
mod event;
mod explanation;
mod extra_specs;
pub mod filters;
mod fits;
mod groups;
mod guest;
mod host;
mod hosts;
mod inventory;
mod measure;
mod options;
mod outcome;
mod platform;
mod profile;
mod query;
mod ratio;
mod request;
mod requirement;
mod resource_classes;
mod resources;
mod score;
pub mod topology;
mod uid;
mod used;
mod waiting;
pub mod weighers;

#[cfg(test)]
mod fixtures;

pub use aggregate::Aggregate;
pub use allocation::Claim;
pub use ask::Ask;
pub use aspects::Aspects;
pub use attribute::{Attribute, Number, Value};
pub use candidate::{Candidate, Spare};
pub use cluster::{Binding, Cluster, Settings, Usage};
pub use demands::{Demands, Hints, ImageFacts, NearError, near};
pub use event::Event;
pub use explanation::{Asker, Explanation, HostVerdict, Part, Scored, Table, Verdict};
pub use extra_specs::ExtraSpecError;
pub use host::{Host, Limit, Ratios, Scheduling};
pub use inventory::Inventory;
pub use options::{MetricsOptions, Options};
pub use outcome::{Detail, Placement, Refusal, Rejection};
pub use platform::{Cpu, Platform, Supported};
pub use profile::{Profile, ProfileError, ProfileSpec, Strategy, WeigherSpec};
pub use query::{Query, QueryError};
pub use ratio::{Ratio, RatioError};
pub use request::{Group, OnlyHosts, Policy, Request};
pub use resources::Resources;
pub use uid::Uid;
pub use waiting::{Backoff, Cause, Waiting};
