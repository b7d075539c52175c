//! Volumes: which node each goes to, and what that node's agent does about it.

mod binding;
mod holder;
mod order;
mod plan;
mod seen;

pub use binding::{node_for, waiting_status};
pub use holder::{Claimant, holder};
pub use order::{device, device_of, volume_names};
pub use plan::{Effect, Plan, after_failure, plan};
pub use seen::{Attached, Seen, Use};
