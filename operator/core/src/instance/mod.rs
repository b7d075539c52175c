//! Instances: what a valid one is, and what an agent does about it.

mod validate;

pub use validate::{USER_DATA_BYTES, hostname, validate, validate_address};
