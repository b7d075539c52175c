use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a guest's interface is on its host: Neutron's `binding:vnic_type`.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VnicType {
    /// A virtio card, plugged into a virtual switch.
    #[default]
    Normal,
    /// A function of a network card (SR-IOV), given to the guest.
    Direct,
    /// A whole network card, given to the guest.
    DirectPhysical,
    /// A function of a network card, behind a virtio card.
    #[serde(rename = "MacVTap")]
    MacVtap,
    /// A function that speaks virtio itself.
    #[serde(rename = "VDPA")]
    Vdpa,
    /// A function of a card that switches, behind a virtio card.
    VirtioForwarder,
    /// A card with a network processor.
    #[serde(rename = "SmartNIC")]
    SmartNic,
    /// A function of a card that another machine's agent manages.
    RemoteManaged,
    /// A function of an accelerator.
    AcceleratorDirect,
    /// A whole accelerator.
    AcceleratorDirectPhysical,
}

impl VnicType {
    /// Whether it is a card that is made, and not a piece of the host's hardware.
    pub fn is_normal(&self) -> bool {
        *self == Self::Normal
    }
}
