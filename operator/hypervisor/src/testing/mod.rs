//! For tests of this crate and of its users: the contract that every [`Hypervisor`](crate::Hypervisor) keeps, and real
//! ones to check it on.

pub mod boot_sector;
pub mod client;
pub mod contract;
pub mod node;
mod wait;

pub use wait::eventually;
