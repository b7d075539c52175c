//! What happened in the cluster that may let a waiting request through.

use crate::{Aspects, Resources, Uid};

/// A change that can only be good news to some waiting request. Made by [`Cluster`](crate::Cluster), consumed by
/// [`Waiting`](crate::Waiting).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A host is new.
    HostAdded,
    /// A host differs from before in these aspects.
    HostChanged(Aspects),
    /// An Instance or a reservation has left a host.
    HostFreed {
        /// The largest Instance that the host can take now.
        room: Resources,
    },
    /// A ServerGroup's members are spread differently.
    GroupChanged(Uid),
    /// An Instance has come to a host or left one, placed or reserved.
    InstanceMoved(Uid),
    /// Something that a request named and that was missing is there now. The text is the one given in
    /// [`Cause::Missing`](crate::Cause::Missing), such as `Flavor/m1.small`.
    Appeared(String),
    /// So much happened that the list was cut: everything is worth another try. Callers may also send it on a slow
    /// timer, as a net under everything else.
    Resync,
}
