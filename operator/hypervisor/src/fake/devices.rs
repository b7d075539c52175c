//! What is plugged into the fake's domains.

use uuid::Uuid;

use super::{FakeDomain, State};
use crate::domain::{
    Device, DeviceName, Devices, DiskDevice, DiskSpec, DomainDevices, DomainSpec, InterfaceDevice, InterfaceSource,
    SEED_TARGET, Side,
};
use crate::error::{Error, Result};
use crate::events::Change;

impl State {
    pub fn attach(&mut self, uuid: Uuid, device: &Device, side: Side) -> Result<&'static [Change]> {
        let doing = format!("plugging a device into domain {uuid}");
        self.domain(uuid)?;
        device
            .validate()
            .map_err(|problems| Error::invalid(&doing, &problems))?;
        let unplugged = match device {
            Device::Interface(interface) => !self.is_active_source(&interface.source),
            Device::Disk(_) => false,
        };
        let domain = self.domain(uuid)?;
        let present = domain.side("plugging a device into", side)?;
        if present.has(&device.name()) {
            return Ok(&[]);
        }
        if let Device::Disk(disk) = device
            && present.disks.iter().any(|other| other.target == disk.target)
        {
            return Err(Error::already_exists(
                doing,
                &format!("{} is another disk", disk.target),
            ));
        }
        if side == Side::Running && unplugged {
            return Err(Error::invalid_state(doing, "network is not active"));
        }
        if side == Side::Running && present.free_ports == Some(0) {
            return Err(Error::failed(doing, "No more available PCI slots"));
        }
        let Some(spec) = domain.spec_of(side) else {
            return Ok(&[]);
        };
        match device {
            Device::Disk(disk) => spec.disks.push(DiskSpec::clone(disk)),
            Device::Interface(interface) => spec.interfaces.push(interface.clone()),
        }
        Ok(if side == Side::Running { &[Change::Devices] } else { &[] })
    }

    /// Whether something can be plugged in there now.
    fn is_active_source(&self, source: &InterfaceSource) -> bool {
        let InterfaceSource::Network(name) = source else {
            return true;
        };
        let mut networks = self.networks.values();
        networks.any(|network| network.config.name == *name && network.live.is_some())
    }
}

impl FakeDomain {
    pub fn devices(&self) -> DomainDevices {
        let ports = |spec: &DomainSpec, all: u32| {
            let used = u32::try_from(spec.disks.len() + spec.interfaces.len()).unwrap_or(u32::MAX);
            spec.machine.contains("q35").then(|| all.saturating_sub(used))
        };
        DomainDevices {
            defined: described(&self.config, Some(self.config.hotplug_ports), false),
            running: self
                .live
                .as_ref()
                .map(|live| described(live, ports(live, self.ports), true)),
        }
    }

    fn side(&mut self, doing: &str, side: Side) -> Result<Devices> {
        if side == Side::Running {
            self.active(doing)?;
        }
        let devices = self.devices();
        Ok(devices.on(side).cloned().unwrap_or(devices.defined))
    }

    fn spec_of(&mut self, side: Side) -> Option<&mut DomainSpec> {
        match side {
            Side::Defined => Some(&mut self.config),
            Side::Running => self.live.as_mut(),
        }
    }

    pub fn detach(&mut self, device: &DeviceName, side: Side) -> Result<&'static [Change]> {
        let present = self.side("unplugging a device from", side)?;
        if !present.has(device) {
            return Ok(&[]);
        }
        if side == Side::Running && !self.lets_go {
            self.leaving.push(device.clone());
            return Ok(&[]);
        }
        Ok(self.unplug(device, side))
    }

    /// The guest lets go of all that it was asked for.
    pub fn let_go(&mut self) -> &'static [Change] {
        self.lets_go = true;
        let leaving = std::mem::take(&mut self.leaving);
        leaving.iter().fold(&[][..], |changes, device| {
            let change = self.unplug(device, Side::Running);
            if change.is_empty() { changes } else { change }
        })
    }

    fn unplug(&mut self, device: &DeviceName, side: Side) -> &'static [Change] {
        let Some(spec) = self.spec_of(side) else { return &[] };
        match device {
            DeviceName::Disk(path) => spec.disks.retain(|disk| disk.path != *path),
            DeviceName::Interface(mac) => spec.interfaces.retain(|interface| interface.mac != *mac),
        }
        if side == Side::Running { &[Change::Devices] } else { &[] }
    }
}

fn described(spec: &DomainSpec, free_ports: Option<u32>, runs: bool) -> Devices {
    let disks = spec.disks.iter().map(|disk| DiskDevice {
        target: disk.target.clone(),
        path: Some(disk.path.clone()),
    });
    let seed = spec.seed.iter().map(|seed| DiskDevice {
        target: SEED_TARGET.to_owned(),
        path: Some(seed.clone()),
    });
    let interfaces = spec.interfaces.iter().map(|interface| InterfaceDevice {
        mac: interface.mac,
        alias: interface.alias.clone(),
        device: runs.then(|| format!("vnet-{}", interface.mac.to_string().replace(':', ""))),
    });
    Devices {
        disks: disks.chain(seed).collect(),
        interfaces: interfaces.collect(),
        vcpus: spec.topology.vcpus(),
        memory_bytes: spec.memory_bytes,
        title: spec.title.clone(),
        owner: Some(spec.owner.clone()),
        free_ports,
    }
}
