//! Instances: what a valid one is, and what an agent does about it.

mod effect;
mod hints;
mod needs;
mod plan;
mod ports;
mod power;
mod seen;
mod status;
mod validate;

pub use effect::{Effect, Note, Plan};
pub use plan::plan;
pub use ports::{port, port_name};
pub use power::{DELETE_GRACE, STOP_GRACE};
pub use seen::{
    Cache, Domain, Failure, Image, Interface, InterfaceUse, Power, PowerRecord, Room, Seen, Volume, VolumeUse, WentOff,
};
pub use status::{after_failure, notes};
pub use validate::{USER_DATA_BYTES, hostname, validate, validate_address};
