//! What one Instance holds on one host.

use std::time::Duration;

use crate::Resources;

/// A placement or a reservation. There is one for each Instance, so it is kept small: host and group are numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allocation {
    pub(crate) host: u32,
    pub(crate) group: Option<u32>,
    pub(crate) resources: Resources,
    /// When a reservation ends; `None` for a placement.
    pub(crate) until: Option<Duration>,
}
