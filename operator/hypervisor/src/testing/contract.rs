//! The contract of [`Hypervisor`], as a suite that every back end passes.

mod devices;
mod domains;
mod networks;

use std::path::PathBuf;
use std::time::Duration;

use uuid::Uuid;

use super::eventually;
use crate::{
    Change, CpuMode, DiskFormat, DiskSpec, DomainSpec, DomainState, DomainType, Event, EventStream, Hypervisor, Kind,
    Owner, Result, Topology,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Something that is done behind the hypervisor's back to the domain with this UUID and name.
pub type OnDomain<'a> = &'a dyn Fn(Uuid, &str);

/// Where the suite runs, and what can't be asked of a back end there.
pub struct Setting<'a> {
    /// The hypervisor.
    pub hypervisor: &'a dyn Hypervisor,
    /// The type of the suite's domains.
    pub domain_type: DomainType,
    /// Where disks and logs go.
    pub data: PathBuf,
    /// Puts a domain and a network on the host that are not ours, with this UUID and name.
    pub add_foreign: &'a dyn Fn(Uuid, &str),
    /// Damages the file with the saved memory of a domain with this UUID and name, as a host that goes down while it is
    /// written does. Absent where there is no such file.
    pub damage_saved: Option<OnDomain<'a>>,
    /// What this back end can't do, and so is not checked.
    pub cannot: &'a [Cannot],
}

/// Something that a back end can't do, with the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cannot {
    /// What.
    pub ability: Ability,
    /// Why not.
    pub because: &'static str,
}

/// Parts of the contract that not every back end can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Ability {
    Consoles,
    ResizeDisks,
    GuestsObeyThePowerButtonInTime,
    RefuseStartsWithoutNetwork,
    KeepDhcpOptions,
    TellRestoredGuests,
    KeepADefinitionBesideWhatRuns,
    RefuseATakenBridge,
    CountNetworkConnections,
    GuestsLetGoOfDevices,
    PlugDevices,
}

impl Setting<'_> {
    fn can(&self, ability: Ability) -> bool {
        let hindrance = self.cannot.iter().find(|cannot| cannot.ability == ability);
        if let Some(Cannot { because, .. }) = hindrance {
            eprintln!("not checked here: {ability:?}: {because}");
        }
        hindrance.is_none()
    }

    /// A small domain that boots the test guest, defined nowhere yet.
    fn domain(&self, number: u128) -> DomainSpec {
        let uid = Uuid::from_u128(0x0c00_0000_0000_4000_8000_0000_0000_0000 | number);
        let owner = Owner {
            namespace: "shop".to_owned(),
            name: format!("web-{number}"),
            uid,
            generation: 1,
        };
        let name = format!("virga-c{number:07x}");
        let mut spec = DomainSpec::new(owner, name, self.domain_type, Topology::sockets(1), 64 << 20);
        // Everything that TCG can do costs a second of start-up; the plain model is enough for 512 bytes of guest.
        spec.cpu = CpuMode::Named("qemu64".to_owned());
        spec.tcg_cache_mib = Some(16);
        let path = self.data.join(format!("{number}.raw"));
        super::boot_sector::write_disk(&path).expect("writing the guest's disk");
        let mut disk = DiskSpec::new("vda", path, DiskFormat::Raw);
        disk.boot_order = Some(1);
        // The directory may be on a file system without O_DIRECT.
        disk.cache = crate::Cache::Writeback;
        spec.disks.push(disk);
        spec
    }

    fn wait_for_state(&self, uuid: Uuid, state: DomainState) {
        eventually(&format!("{uuid} is {state:?}"), PATIENCE, || {
            (self.hypervisor.domain(uuid).expect("reading the domain").state == state).then_some(())
        });
    }
}

/// Checks everything. The host must hold nothing of ours, and holds nothing of ours afterwards.
pub fn contract(setting: &Setting<'_>) {
    assert_eq!(
        setting.hypervisor.domains().expect("listing domains"),
        [],
        "the host must hold no domain of ours"
    );
    facts_are_filled(setting);
    domains::check(setting);
    devices::check(setting);
    networks::check(setting);
    assert_eq!(setting.hypervisor.domains().expect("listing domains"), []);
    assert_eq!(setting.hypervisor.networks().expect("listing networks"), []);
}

fn facts_are_filled(setting: &Setting<'_>) {
    let facts = setting.hypervisor.facts().expect("reading the host's facts");
    assert!(!facts.hostname.is_empty());
    assert!(
        facts.libvirt_version.split('.').count() == 3,
        "{}",
        facts.libvirt_version
    );
    assert!(
        facts.hypervisor_version.split('.').count() == 3,
        "{}",
        facts.hypervisor_version
    );
    assert!(facts.cpus > 0 && facts.memory_bytes > 1 << 20);
    let cpus: usize = facts.cells.iter().map(|cell| cell.cpus.len()).sum();
    assert_eq!(
        cpus,
        usize::try_from(facts.cpus).expect("some CPUs"),
        "{:?}",
        facts.cells
    );
    assert!(!facts.cpu.architecture.is_empty());
    assert!(
        facts.domain_types.contains(&setting.domain_type),
        "{:?}",
        facts.domain_types
    );
}

fn expect_kind<T: std::fmt::Debug>(result: Result<T>, kind: Kind, what: &str) {
    let error = result.expect_err(what);
    assert_eq!(error.kind(), kind, "{what}: {error}");
    assert!(!error.to_string().contains('\n'), "an error is one line: {error:?}");
}

fn wait_for_event(events: &mut EventStream, uuid: Uuid, change: Change) {
    let wanted = Event::Domain { uuid, change };
    eventually(&format!("{wanted:?}"), PATIENCE, || {
        events.try_next().filter(|event| *event == wanted)
    });
}
