//! Flavors: what each asks for, and how much it is used.

mod extra_specs;
mod machine;
mod shape;

use jiff::Timestamp;
use virga_crds::{Flavor, FlavorStatus, conditions::Reason};

use crate::{
    condition::{Conditions, Progress},
    protection::{Protection, protection},
    uses::User,
};

pub(crate) use extra_specs::image_refusal;
pub use extra_specs::{ExtraSpecs, Hardware, PCPU, extra_specs};
pub use machine::{
    Asked, CdromBus, Choice, Cpus, DeviceFacts, DiskBus, DiskQuota, Firmware, InputBus, Machine, MachineType, Quota,
    Rate, RngRate, SecureBoot, Tpm, TpmModel, TpmVersion, UsbModel, VideoModel, VifModel, VifQuota, Viommu, Watchdog,
    check_image, device_traits, known_device_traits,
};
pub use shape::{Shape, image_key};

/// What to do about a Flavor that these use.
pub fn plan<'a>(
    flavor: &Flavor,
    users: impl Iterator<Item = &'a User> + Clone,
    now: Timestamp,
) -> (Protection, FlavorStatus) {
    let protection = protection(&flavor.metadata, users.clone());
    let old = flavor
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let mut conditions = Conditions::new(old, flavor.metadata.generation, now);
    match &protection {
        Protection::InUse(message) => conditions.set_ready(Progress::Working, Reason::InUse, message),
        _ => conditions.set_ready(Progress::Done, Reason::AsSpecified, "Instances can have this flavor"),
    }
    let status = FlavorStatus {
        observed_generation: flavor.metadata.generation,
        instances: i32::try_from(users.count()).unwrap_or(i32::MAX),
        conditions: conditions.into_vec(),
    };
    (protection, status)
}
