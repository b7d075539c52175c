//! Instances: what a valid one is, and what an agent does about it.

mod actions;
mod backup;
mod decision;
mod deeds;
mod devices;
mod effect;
mod health;
mod hints;
mod leaving;
mod lock;
mod needs;
mod plan;
mod ports;
mod power;
mod reboot;
mod rebuild;
mod rescue;
mod resize;
mod root;
mod seen;
mod shelve;
mod snapshotting;
mod soft_delete;
mod status;
mod topology;
mod trunk;
mod usage;
mod validate;
mod vnic;

pub use actions::{deleted, ended, requesters};
pub use backup::{Backups, backups};
pub use decision::decision;
pub use deeds::{Deed, Deeds, wants_guest_agent};
pub use devices::{Asked, Devices, Disk, DiskKind, Nic, NicKind, OwnPort, Plugged, Present, Side, targets};
pub use effect::{Effect, Note, Plan};
pub use health::{DiskFault, Guest, Health, is_news_of_guest};
pub use leaving::Leaving;
pub use lock::kept_by_lock;
pub use plan::plan;
pub use ports::{is_unplugged, port, port_name, port_of};
pub use power::{DELETE_GRACE, STOP_GRACE};
pub use rebuild::rebuild_in_time;
pub use resize::{Counted, ResizeRecord, ResizeSeen, ResizeStage, counted, flavor_name, granted};
pub use root::{RebuildRecord, RebuildStage, RescueRecord, RescueStage, RootRecord, RootSeen, root_image};
pub use seen::{
    Cache, Domain, Failure, Image, Interface, InterfaceUse, Power, PowerRecord, RebootRecord, Room, Seen, Volume,
    VolumeUse, WentOff,
};
pub use shelve::{
    DiskMark, ShelveSeen, ShelvedImage, Shelving, is_shelved_away, shelved_image_name, shelving, stays_shelved,
};
pub use snapshotting::Snapshotting;
pub use soft_delete::reclaimed_in;
pub use status::{after_failure, notes};
pub use topology::{pinning, told};
pub use trunk::{NO_TRUNK, Plug, plugs, sub_ports, too_small};
pub use usage::{Counters, is_news as is_news_of_usage, usage};
pub use validate::{USER_DATA_BYTES, hostname, validate, validate_address};
pub use vnic::{no_such_card, without_card};
