//! Where does an Instance run? Admission decides when it can; the queue takes what admission could not.
//!
//! | question | module |
//! |---|---|
//! | what does a Hypervisor offer? | [`host`] |
//! | what does a HostAggregate say of its hosts? | [`aggregates`] |
//! | what does an Instance ask for? | [`request`] |
//! | … of its host beyond room? | `wishes` |
//! | which volumes, and where are they? | `volumes` |
//! | can its image be used with its flavor? | `image_fit` |
//! | which hosts have said no to it? | [`rejection`] |
//! | what stands in its way, whatever hosts offer? | [`obstacle`] |
//! | … of what its host has? | [`takes`] |
//! | what is each host busy with? | `load` |
//! | which filters hold when nobody says otherwise? | [`profile`] |
//! | which profile did the operator write? | [`profile_file`] |
//! | what is free, and who decides? | [`state`] |
//! | how is that kept up to date? | `index` |
//! | how does what the watches see get in there? | [`feed`] |
//! | may a new leader decide yet? | [`takeover`] |
//! | who waits, and when is it worth another try? | [`queue`] |
//! | how is a decision written? | [`bind`] |
//! | what does the user hear meanwhile? | [`explain`] |
//! | what is kept of a decision, and in which forms is it told? | [`record`] |
//! | where does an Instance move to? | `moves` |
//! | has its host room for another size of it? | [`resizes`] |
//! | what is said of what is missing? | `missing` |
//! | what is counted? | `metrics` |

pub mod aggregates;
pub mod bind;
pub mod explain;
pub mod feed;
pub mod host;
mod image_fit;
mod index;
mod load;
mod metrics;
mod missing;
mod moves;
pub mod obstacle;
pub mod profile;
pub mod profile_file;
pub mod queue;
pub mod record;
pub mod rejection;
pub mod request;
pub mod resizes;
pub mod state;
pub mod takeover;
pub mod takes;
pub(crate) mod volumes;
mod wishes;

pub use host::HostDefaults;
pub use state::{Decision, Scheduler};
