//! Tests against a real cluster.
//!
//! There are two tiers. `tests/api_*.rs` run on a kube-apiserver with etcd and nothing else: schemas, rules, policies,
//! the chart's objects, admission. `tests/lab` runs on the lab: the chart installed, agents, guests. Both are written
//! so that a test reads as sentences: [`with_temp_namespace`] gives it a place, [`Case::create`] makes what is given,
//! [`Case::await_condition`] waits, within a bound, for what must come, and says in its failure what the object and its
//! events looked like.

mod case;
pub mod cluster;
pub mod installation;
pub mod objects;
pub mod on_node;
mod report;
pub mod waiting;

pub use case::{Case, with_temp_namespace};
pub use cluster::{Cluster, Said};
pub use installation::Installation;
pub use waiting::{BOUND, condition, eventually, is_ready, ready_because};

/// The root of the checkout.
pub fn checkout() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .components()
        .as_path()
        .parent()
        .map(std::path::Path::to_path_buf)
        .unwrap_or_default()
}
