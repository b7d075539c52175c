//! The rules of each kind as pure functions: no client, no clock, no I/O. Time comes in as an argument.
//!
//! One folder a kind. `validate` answers what is wrong with an object, all of it at once; `plan` what to do next;
//! `status` what to tell the user. The shells around them (controller, agent, webhooks) only fetch and apply.

pub mod address_group;
pub mod carried;
pub mod condition;
pub mod duration;
pub mod flavor;
pub mod floating_ip;
pub mod host_aggregate;
pub mod hypervisor;
pub mod image;
pub mod instance;
pub mod load_balancer;
pub mod migration;
pub mod nearest;
pub mod network;
pub mod problem;
pub mod project;
pub mod protection;
pub mod router;
pub mod security_group;
pub mod selector;
pub mod server_group;
pub mod trace;
pub mod uses;
pub mod volume;
