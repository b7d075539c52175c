//! What is plugged into a domain of libvirt.

use virt::sys;

use super::domains::Ours;
use crate::domain::{Device, DeviceName, Devices, DomainDevices, Side, device_to_xml, device_xml, devices_from_xml};
use crate::error::{Error, Result};

/// What QEMU says of a device that its guest was asked to let go of before, and has not yet.
const UNDER_WAY: &str = "in the process of unplug";

impl Ours {
    pub fn devices(&self) -> Result<DomainDevices> {
        let running = self.is_active()?;
        Ok(DomainDevices {
            defined: self.read(Side::Defined)?,
            running: running.then(|| self.read(Side::Running)).transpose()?,
        })
    }

    pub fn attach(&self, device: &Device, side: Side) -> Result<()> {
        device
            .validate()
            .map_err(|problems| Error::invalid(self.doing(), &problems))?;
        let present = self.present(side)?;
        if present.has(&device.name()) {
            return Ok(());
        }
        if let Device::Disk(disk) = device
            && present.disks.iter().any(|other| other.target == disk.target)
        {
            let message = format!("{} is another disk", disk.target);
            return Err(Error::already_exists(self.doing(), &message));
        }
        self.explain(self.domain.attach_device_flags(&device_to_xml(device), affect(side)))
    }

    pub fn detach(&self, device: &DeviceName, side: Side) -> Result<()> {
        self.present(side)?;
        let Some(xml) = device_xml(&self.describe(side)?, device) else {
            return Ok(());
        };
        match self.explain(self.domain.detach_device_flags(&xml, affect(side))) {
            Err(error) if error.to_string().contains(UNDER_WAY) => Ok(()),
            // The guest let go of it between our look and our call.
            Err(_) if device_xml(&self.describe(side)?, device).is_none() => Ok(()),
            result => result,
        }
    }

    /// One side of the domain; it must be there.
    fn present(&self, side: Side) -> Result<Devices> {
        if side == Side::Running && !self.is_active()? {
            return Err(self.not_running());
        }
        self.read(side)
    }

    fn read(&self, side: Side) -> Result<Devices> {
        devices_from_xml(&self.describe(side)?).ok_or_else(|| {
            let message = "libvirt describes it in a way that is not understood: look at it with virsh dumpxml";
            Error::failed(self.doing(), message)
        })
    }

    fn describe(&self, side: Side) -> Result<String> {
        let flags = match side {
            Side::Defined => sys::VIR_DOMAIN_XML_INACTIVE,
            Side::Running => 0,
        };
        self.explain(self.domain.xml_desc(flags))
    }
}

fn affect(side: Side) -> u32 {
    match side {
        Side::Defined => sys::VIR_DOMAIN_AFFECT_CONFIG,
        Side::Running => sys::VIR_DOMAIN_AFFECT_LIVE,
    }
}
