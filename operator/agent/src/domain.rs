//! Is an Instance's domain there, and does it run?

use uuid::Uuid;
use virga_core::instance::{DiskFault, Domain, Power, WentOff};
use virga_hypervisor::{DomainInfo, DomainState, Kind, SavedMemory, StateReason};

use crate::host::Host;

/// The domain, as libvirt says.
pub async fn look(host: &Host, uid: Uuid) -> Domain {
    match host.read(uid, move |hypervisor| hypervisor.domain(uid)).await {
        Ok(info) => Domain::Defined(power(&info)),
        Err(error) => match error.kind() {
            Kind::NotFound => Domain::Absent,
            Kind::Foreign => Domain::Foreign(error.to_string()),
            _ => Domain::Unreachable(error.to_string()),
        },
    }
}

/// The disks that QEMU halted the guest for; none when libvirt can't tell.
pub async fn disk_faults(host: &Host, uid: Uuid) -> Vec<DiskFault> {
    let asked = host.read(uid, move |hypervisor| hypervisor.disk_faults(uid)).await;
    let fault = |fault: virga_hypervisor::DiskFault| DiskFault {
        target: fault.target,
        no_space: fault.no_space,
    };
    asked.map_or_else(|_| Vec::new(), |faults| faults.into_iter().map(fault).collect())
}

/// libvirt's state and reason, in the words that decisions are made in.
fn power(info: &DomainInfo) -> Power {
    match info.state {
        DomainState::Running => Power::Running,
        DomainState::Paused if info.reason == StateReason::IoError => Power::IoError,
        DomainState::Paused if info.reason == StateReason::Saved => Power::Saving,
        DomainState::Paused => Power::Paused,
        DomainState::Sleeping => Power::Sleeping,
        DomainState::ShuttingDown => Power::ShuttingDown,
        DomainState::Crashed => Power::Crashed,
        DomainState::ShutOff if info.saved == SavedMemory::Whole => Power::Saved,
        DomainState::ShutOff if info.saved != SavedMemory::None => Power::BrokenSave,
        DomainState::ShutOff => Power::Off(match info.reason {
            StateReason::Shutdown => WentOff::ByGuest,
            StateReason::Crashed => WentOff::Crashed,
            StateReason::Failed => WentOff::Failed,
            StateReason::Destroyed | StateReason::User => WentOff::Destroyed,
            _ => WentOff::Unknown,
        }),
    }
}
