//! NUMA cells, pinned CPUs, huge pages and PCI devices: what a guest asks for, what a host has, what a guest holds.
//!
//! Nova: `InstanceNUMATopology`, `NUMATopology` and `PciDeviceStats` (nova/virt/hardware.py, nova/pci/stats.py). The same
//! code decides in the scheduler and on the host, whose word is the last.

mod cell;
mod cores;
mod cpus;
mod devices;
mod fit;
mod guest;
mod host;
mod misfit;
mod occupied;
mod pinning;
#[cfg(test)]
mod tests;

pub use cpus::{CpuSet, CpuSetError};
pub(crate) use fit::fits;
pub use fit::{Limits, fit};
pub use guest::{EmulatorThreads, GuestCell, GuestTopology, PageSize, PciAffinity, PciRequest, ThreadPolicy};
pub use host::{HostCell, HostTopology, Pages, PciDevice};
pub use misfit::{Lack, Misfit};
pub use occupied::Occupied;
pub use pinning::{HeldDevice, PinnedCell, Pinning};
