//! What the unit tests start from.

use virga_core::condition::Conditions;
use virga_crds::{
    Bytes, Condition, Cpu, Hypervisor, HypervisorSpec, HypervisorStatus, Resources,
    conditions::{Reason, types},
};

/// A Hypervisor that is ready: 8 threads, 16 GiB of memory and 512 MiB that are kept, 100 GiB of disk.
pub(crate) fn hypervisor(name: &str) -> Hypervisor {
    let mut hypervisor = Hypervisor::new(name, HypervisorSpec::default());
    hypervisor.status = Some(HypervisorStatus {
        capacity: Some(Resources {
            vcpus: 8,
            memory: Bytes::mib(16 * 1024 + 512),
            disk: Bytes::gib(100),
        }),
        cpu: Some(Cpu {
            architecture: "x86_64".into(),
            ..Cpu::default()
        }),
        conditions: ready(),
        ..HypervisorStatus::default()
    });
    hypervisor
}

fn ready() -> Vec<Condition> {
    let mut conditions = Conditions::new(&[], Some(1), jiff::Timestamp::UNIX_EPOCH);
    conditions.set(types::READY, true, Reason::HeartbeatSeen, "");
    conditions.into_vec()
}
