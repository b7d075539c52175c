use virga_crds::Bytes;

use crate::instance::Image;

/// Everything that deciding about one Volume takes, as the agent of its node found it in one look.
#[derive(Clone, Debug)]
pub struct Seen {
    /// This agent's node.
    pub node: String,
    /// Its file's virtual size; absent when there is no file.
    pub file: Option<Bytes>,
    /// The image that it is filled with; absent for a blank one.
    pub image: Option<Image>,
    /// Who has it.
    pub attached: Option<Attached>,
}

/// An Instance that has a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The Instance's name.
    pub instance: String,
    /// Its uid, which is its domain's.
    pub uid: String,
    /// How the guest sees the volume: vda, vdb, …
    pub device: String,
    /// What its domain does.
    pub use_: Use,
}

/// What the domain of an Instance that has a volume does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It has the file open.
    Open,
    /// It is defined and off, or about to be defined.
    Closed,
    /// libvirt can't be asked.
    Unknown,
}
