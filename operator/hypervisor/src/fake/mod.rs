//! A hypervisor in memory, with the same contract and with faults on order.

mod backup;
mod devices;
mod domains;
mod faults;
mod guests;
mod networks;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

pub use faults::{Fault, Hold, Operation};

use crate::console::{Buffer, Console};
use crate::domain::{
    Backup, Device, DeviceName, DiskFault, DomainDevices, DomainInfo, DomainSpec, DomainState, DomainType, DomainUsage,
    Firmware, GuestInfo, Password, SavedMemory, Side, StateReason,
};
use crate::error::{Error, Result};
use crate::events::{Change, Event, EventStream, Hub};
use crate::host::{CellCpu, CellFacts, CpuFacts, DeviceFacts, HostFacts, PageFacts};
use crate::hypervisor::Hypervisor;
use crate::network::{NetworkInfo, NetworkSpec, NetworkUpdate};
use crate::owner::Owner;

/// A hypervisor in memory. Guests obey at once. Clones share one host.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    host: Arc<Host>,
}

#[derive(Debug, Default)]
struct Host {
    state: Mutex<State>,
    faults: faults::Faults,
    hub: Hub,
}

#[derive(Debug)]
struct State {
    facts: HostFacts,
    connected: bool,
    domains: BTreeMap<Uuid, FakeDomain>,
    networks: BTreeMap<Uuid, FakeNetwork>,
    /// Names of domains and networks that are not ours.
    foreign: HashMap<Uuid, String>,
    calls: Vec<(Operation, Option<Uuid>)>,
}

#[derive(Debug)]
struct FakeDomain {
    config: DomainSpec,
    live: Option<DomainSpec>,
    state: DomainState,
    reason: StateReason,
    saved: SavedMemory,
    obeys_shutdown: bool,
    sizes: HashMap<String, u64>,
    /// The PCIe ports that it was started with.
    ports: u32,
    lets_go: bool,
    /// What its guest was asked to let go of.
    leaving: Vec<DeviceName>,
    console: Option<Arc<Buffer>>,
    guest: guests::FakeGuest,
    backup: backup::FakeBackup,
}

#[derive(Debug)]
struct FakeNetwork {
    config: NetworkSpec,
    live: Option<NetworkSpec>,
}

impl Default for State {
    fn default() -> Self {
        State {
            facts: HostFacts {
                hostname: "fake".to_owned(),
                uuid: Uuid::from_u128(0x0fa4_e000_0000_4000_8000_0000_0000_0001),
                libvirt_version: "11.3.0".to_owned(),
                hypervisor_version: "10.0.2".to_owned(),
                cpus: 8,
                cpu: CpuFacts {
                    architecture: "x86_64".to_owned(),
                    model: "EPYC".to_owned(),
                    vendor: "AMD".to_owned(),
                    features: vec!["invtsc".to_owned()],
                },
                memory_bytes: 16 << 30,
                domain_types: vec![DomainType::Qemu],
                machines: vec!["pc".to_owned(), "q35".to_owned()],
                firmware: vec![Firmware::Bios],
                devices: DeviceFacts::default(),
                cells: vec![cell()],
                pci_devices: Vec::new(),
            },
            connected: true,
            domains: BTreeMap::new(),
            networks: BTreeMap::new(),
            foreign: HashMap::new(),
            calls: Vec::new(),
        }
    }
}

/// One cell with eight cores of one thread each.
fn cell() -> CellFacts {
    CellFacts {
        id: 0,
        memory_bytes: 16 << 30,
        pages: vec![PageFacts {
            size_kib: 4,
            total: 4 << 20,
        }],
        cpus: (0..8)
            .map(|id| CellCpu {
                id,
                socket: 0,
                siblings: [id].into(),
            })
            .collect(),
    }
}

impl Fake {
    /// A host with 8 CPUs and 16 GiB in one NUMA cell, without guests.
    pub fn new() -> Self {
        Fake::default()
    }

    /// A host with these facts.
    pub fn with_facts(facts: HostFacts) -> Self {
        let fake = Fake::new();
        fake.lock().facts = facts;
        fake
    }

    /// Changes what the host has, as operators do who reserve huge pages or plug devices.
    pub fn change_facts(&self, change: impl FnOnce(&mut HostFacts)) {
        change(&mut self.lock().facts);
    }

    /// The specification of a defined domain.
    pub fn spec(&self, uuid: Uuid) -> Option<DomainSpec> {
        self.lock().domains.get(&uuid).map(|domain| domain.config.clone())
    }

    /// The size that a disk was last given by [`Hypervisor::resize_disk`], in bytes.
    pub fn disk_bytes(&self, uuid: Uuid, target: &str) -> Option<u64> {
        self.lock().domains.get(&uuid)?.sizes.get(target).copied()
    }

    /// All calls since the last time that this was asked, refused ones included.
    pub fn take_calls(&self) -> Vec<(Operation, Option<Uuid>)> {
        std::mem::take(&mut self.lock().calls)
    }

    /// Puts something on the host that is not ours: a domain or a network of another owner.
    pub fn add_foreign(&self, uuid: Uuid, name: &str) {
        self.lock().foreign.insert(uuid, name.to_owned());
    }

    /// Makes the next calls of this kind fail. Several orders for one kind are served in turn.
    pub fn fail_next(&self, operation: Operation, times: usize, fault: &Fault) {
        self.host.faults.order(operation, times, fault);
    }

    /// Makes every call take this long.
    pub fn set_latency(&self, latency: Duration) {
        self.host.faults.set_latency(latency);
    }

    /// Blocks all calls of this kind until the returned value is dropped.
    pub fn hold(&self, operation: Operation) -> Hold {
        self.host.faults.hold(operation)
    }

    /// The daemon goes away: calls fail, guests run on.
    pub fn lose_connection(&self) {
        let was_connected = std::mem::replace(&mut self.lock().connected, false);
        if was_connected {
            self.host.hub.send(&Event::Disconnected);
        }
    }

    /// The daemon is back.
    pub fn restore_connection(&self) {
        let was_connected = std::mem::replace(&mut self.lock().connected, true);
        if !was_connected {
            self.host.hub.send(&Event::Resync);
        }
    }

    /// The host restarts: no guest runs, no network is active, and nobody saw why.
    pub fn restart_host(&self) {
        let mut state = self.lock();
        for domain in state.domains.values_mut() {
            domain.stop(StateReason::Unknown);
        }
        for network in state.networks.values_mut() {
            network.live = None;
        }
        drop(state);
        self.host.hub.send(&Event::Disconnected);
        self.host.hub.send(&Event::Resync);
    }

    /// The guest's process dies.
    pub fn crash_guest(&self, uuid: Uuid) {
        self.end_guest(uuid, StateReason::Crashed, &[Change::Stopped]);
    }

    /// The guest powers itself off.
    pub fn power_off_guest(&self, uuid: Uuid) {
        self.end_guest(uuid, StateReason::Shutdown, &[Change::ShuttingDown, Change::Stopped]);
    }

    /// A disk of the guest has no space left: libvirt pauses it.
    pub fn fail_guest_io(&self, uuid: Uuid) {
        if let Some(domain) = self
            .lock()
            .domains
            .get_mut(&uuid)
            .filter(|domain| domain.state.is_active())
        {
            (domain.state, domain.reason) = (DomainState::Paused, StateReason::IoError);
        }
        self.send(uuid, &[Change::Suspended]);
    }

    /// The file with the guest's saved memory is damaged.
    pub fn damage_saved(&self, uuid: Uuid) {
        if let Some(domain) = self.lock().domains.get_mut(&uuid) {
            domain.saved = SavedMemory::Broken("save image is incomplete".to_owned());
        }
    }

    /// Whether the guest heeds the power button. It does unless told otherwise.
    pub fn set_obeys_shutdown(&self, uuid: Uuid, obeys: bool) {
        if let Some(domain) = self.lock().domains.get_mut(&uuid) {
            domain.obeys_shutdown = obeys;
        }
    }

    /// Has the guest keep devices that it is asked to let go of, until [`Fake::let_go`]. It lets go of them at once unless
    /// told otherwise.
    pub fn hold_devices(&self, uuid: Uuid) {
        if let Some(domain) = self.lock().domains.get_mut(&uuid) {
            domain.lets_go = false;
        }
    }

    /// The guest lets go of all devices that it was asked for.
    pub fn let_go(&self, uuid: Uuid) {
        let changes = self.lock().domains.get_mut(&uuid).map_or(&[][..], FakeDomain::let_go);
        self.send(uuid, changes);
    }

    /// Somebody changes one side of a domain by hand. libvirt tells of it as it does.
    pub fn change_by_hand(&self, uuid: Uuid, side: Side, change: impl FnOnce(&mut DomainSpec)) {
        if let Some(domain) = self.lock().domains.get_mut(&uuid) {
            match side {
                Side::Defined => change(&mut domain.config),
                Side::Running => {
                    if let Some(live) = &mut domain.live {
                        change(live);
                    }
                }
            }
        }
        let told = if side == Side::Running {
            Change::Devices
        } else {
            Change::Defined
        };
        self.send(uuid, &[told]);
    }

    /// The guest writes to its serial console. Without an open session the bytes are lost.
    pub fn guest_writes(&self, uuid: Uuid, bytes: &[u8]) {
        if let Some(console) = self
            .lock()
            .domains
            .get(&uuid)
            .and_then(|domain| domain.console.as_ref())
        {
            console.push(bytes);
        }
    }

    fn end_guest(&self, uuid: Uuid, reason: StateReason, changes: &[Change]) {
        let ended = match self.lock().domains.get_mut(&uuid) {
            Some(domain) if domain.state.is_active() => {
                domain.stop(reason);
                true
            }
            _ => false,
        };
        if ended {
            self.send(uuid, changes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.host.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, uuid: Uuid, changes: &[Change]) {
        for change in changes {
            self.host.hub.send(&Event::Domain { uuid, change: *change });
        }
    }

    /// What every call goes through first: the log, the order book of faults, the connection.
    fn enter(&self, operation: Operation, uuid: Option<Uuid>) -> Result<MutexGuard<'_, State>> {
        self.lock().calls.push((operation, uuid));
        match self.host.faults.next(operation) {
            Some(Fault::Error(error)) => return Err(error),
            Some(Fault::Disconnect) => self.lose_connection(),
            None => {}
        }
        let state = self.lock();
        if state.connected {
            Ok(state)
        } else {
            Err(Error::unavailable(
                operation.doing(),
                "the fake hypervisor has no connection",
            ))
        }
    }
}

impl Hypervisor for Fake {
    fn facts(&self) -> Result<HostFacts> {
        Ok(self.enter(Operation::Facts, None)?.facts.clone())
    }

    fn domains(&self) -> Result<Vec<DomainInfo>> {
        Ok(self
            .enter(Operation::Domains, None)?
            .domains
            .values()
            .map(FakeDomain::info)
            .collect())
    }

    fn domain(&self, uuid: Uuid) -> Result<DomainInfo> {
        let mut state = self.enter(Operation::Domain, Some(uuid))?;
        Ok(state.domain(uuid)?.info())
    }

    fn define(&self, spec: &DomainSpec) -> Result<()> {
        self.enter(Operation::Define, Some(spec.uuid))?.define(spec)?;
        self.send(spec.uuid, &[Change::Defined]);
        Ok(())
    }

    fn set_owner(&self, uuid: Uuid, owner: &Owner) -> Result<()> {
        let mut state = self.enter(Operation::SetOwner, Some(uuid))?;
        let domain = state.domain(uuid)?;
        domain.config.owner = owner.clone();
        if let Some(live) = &mut domain.live {
            live.owner = owner.clone();
        }
        Ok(())
    }

    fn start(&self, uuid: Uuid) -> Result<()> {
        let changes = self.enter(Operation::Start, Some(uuid))?.start(uuid)?;
        self.send(uuid, changes);
        Ok(())
    }

    fn shutdown(&self, uuid: Uuid) -> Result<()> {
        let changes = self.enter(Operation::Shutdown, Some(uuid))?.domain(uuid)?.shutdown();
        self.send(uuid, changes);
        Ok(())
    }

    fn destroy(&self, uuid: Uuid) -> Result<()> {
        let changes = self.enter(Operation::Destroy, Some(uuid))?.domain(uuid)?.destroy();
        self.send(uuid, changes);
        Ok(())
    }

    fn suspend(&self, uuid: Uuid) -> Result<()> {
        let changes = self.enter(Operation::Suspend, Some(uuid))?.domain(uuid)?.suspend()?;
        self.send(uuid, changes);
        Ok(())
    }

    fn resume(&self, uuid: Uuid) -> Result<()> {
        let changes = self.enter(Operation::Resume, Some(uuid))?.domain(uuid)?.resume()?;
        self.send(uuid, changes);
        Ok(())
    }

    fn save(&self, uuid: Uuid) -> Result<()> {
        let changes = self.enter(Operation::Save, Some(uuid))?.domain(uuid)?.save()?;
        self.send(uuid, changes);
        Ok(())
    }

    fn discard_saved(&self, uuid: Uuid) -> Result<()> {
        self.enter(Operation::DiscardSaved, Some(uuid))?
            .domain(uuid)?
            .discard_saved();
        Ok(())
    }

    fn reset(&self, uuid: Uuid) -> Result<()> {
        self.enter(Operation::Reset, Some(uuid))?
            .domain(uuid)?
            .active("resetting")
            .map(|_| ())
    }

    fn undefine(&self, uuid: Uuid) -> Result<()> {
        self.enter(Operation::Undefine, Some(uuid))?.undefine(uuid)?;
        self.send(uuid, &[Change::Undefined]);
        Ok(())
    }

    fn resize_disk(&self, uuid: Uuid, target: &str, bytes: u64) -> Result<()> {
        self.enter(Operation::ResizeDisk, Some(uuid))?
            .domain(uuid)?
            .resize_disk(target, bytes)
    }

    fn usage(&self, of: &[Uuid]) -> Result<Vec<DomainUsage>> {
        Ok(self.enter(Operation::Usage, None)?.usage(of))
    }

    fn disk_faults(&self, uuid: Uuid) -> Result<Vec<DiskFault>> {
        self.enter(Operation::DiskFaults, Some(uuid))?
            .domain(uuid)?
            .disk_faults()
    }

    fn has_guest_agent(&self, uuid: Uuid) -> Result<bool> {
        let mut state = self.enter(Operation::HasGuestAgent, Some(uuid))?;
        Ok(state.domain(uuid)?.has_guest_agent())
    }

    fn guest_info(&self, uuid: Uuid) -> Result<GuestInfo> {
        self.enter(Operation::GuestInfo, Some(uuid))?.domain(uuid)?.guest_info()
    }

    fn set_password(&self, uuid: Uuid, user: &str, password: &Password) -> Result<()> {
        let mut state = self.enter(Operation::SetPassword, Some(uuid))?;
        state.domain(uuid)?.set_password(user, password)
    }

    fn inject_nmi(&self, uuid: Uuid) -> Result<()> {
        self.enter(Operation::InjectNmi, Some(uuid))?.domain(uuid)?.inject_nmi()
    }

    fn freeze(&self, uuid: Uuid) -> Result<()> {
        self.enter(Operation::Freeze, Some(uuid))?.domain(uuid)?.freeze()
    }

    fn thaw(&self, uuid: Uuid) -> Result<()> {
        self.enter(Operation::Thaw, Some(uuid))?.domain(uuid)?.thaw();
        Ok(())
    }

    fn begin_backup(&self, uuid: Uuid, disk: &Path, target: &Path) -> Result<()> {
        self.enter(Operation::BeginBackup, Some(uuid))?
            .domain(uuid)?
            .begin_backup(disk, target)
    }

    fn backup(&self, uuid: Uuid) -> Result<Backup> {
        Ok(self.enter(Operation::Backup, Some(uuid))?.domain(uuid)?.backup())
    }

    fn abort_backup(&self, uuid: Uuid) -> Result<()> {
        self.enter(Operation::AbortBackup, Some(uuid))?
            .domain(uuid)?
            .abort_backup();
        Ok(())
    }

    fn devices(&self, uuid: Uuid) -> Result<DomainDevices> {
        Ok(self.enter(Operation::Devices, Some(uuid))?.domain(uuid)?.devices())
    }

    fn attach(&self, uuid: Uuid, device: &Device, side: Side) -> Result<()> {
        let changes = self.enter(Operation::Attach, Some(uuid))?.attach(uuid, device, side)?;
        self.send(uuid, changes);
        Ok(())
    }

    fn detach(&self, uuid: Uuid, device: &DeviceName, side: Side) -> Result<()> {
        let mut state = self.enter(Operation::Detach, Some(uuid))?;
        let changes = state.domain(uuid)?.detach(device, side)?;
        drop(state);
        self.send(uuid, changes);
        Ok(())
    }

    fn open_console(&self, uuid: Uuid, force: bool) -> Result<Console> {
        self.enter(Operation::OpenConsole, Some(uuid))?
            .domain(uuid)?
            .open_console(force)
    }

    fn networks(&self) -> Result<Vec<NetworkInfo>> {
        let state = self.enter(Operation::Networks, None)?;
        Ok(state
            .networks
            .values()
            .map(|network| state.network_info(network))
            .collect())
    }

    fn network(&self, uuid: Uuid) -> Result<NetworkInfo> {
        let state = self.enter(Operation::Network, Some(uuid))?;
        state.known_network(uuid).map(|network| state.network_info(network))
    }

    fn plugged(&self, network: Uuid) -> Result<u32> {
        self.network(network).map(|info| info.connections)
    }

    fn define_network(&self, spec: &NetworkSpec) -> Result<()> {
        self.enter(Operation::DefineNetwork, Some(spec.uuid))?
            .define_network(spec)
    }

    fn start_network(&self, uuid: Uuid) -> Result<()> {
        self.enter(Operation::StartNetwork, Some(uuid))?.start_network(uuid)
    }

    fn stop_network(&self, uuid: Uuid) -> Result<()> {
        self.enter(Operation::StopNetwork, Some(uuid))?.network_mut(uuid)?.live = None;
        Ok(())
    }

    fn update_network(&self, spec: &NetworkSpec) -> Result<NetworkUpdate> {
        self.enter(Operation::UpdateNetwork, Some(spec.uuid))?
            .update_network(spec)
    }

    fn remove_network(&self, uuid: Uuid) -> Result<()> {
        let mut state = self.enter(Operation::RemoveNetwork, Some(uuid))?;
        state.network_mut(uuid)?;
        state.networks.remove(&uuid);
        Ok(())
    }

    fn events(&self, capacity: usize) -> EventStream {
        self.host.hub.subscribe(capacity)
    }
}
