//! The controller as a whole, beside an API server that keeps objects in memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod admission;
mod certificates;
mod decisions;
mod harness;
mod placement;
mod process;
mod queue;
mod shelving;
mod webhooks;
mod wishes;
