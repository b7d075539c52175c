//! Migrations: what is next, who may move, and who owns the guest meanwhile.
//!
//! The owner is not decided here: it is what the source has written down (`virga_transfer::handover`), and its agent
//! tells in `status.outgoing`. Everything here follows from that, so no order of events gives a guest two hosts.

mod plan;

pub use plan::{Act, Facts, KEPT, Next, forbids, holds, is_active, placed, plan, waits};
