//! PciPassthroughFilter: the host has the devices that are asked for, and nobody has them yet.
//!
//! Nova: `nova/scheduler/filters/pci_passthrough_filter.py` with `PciDeviceStats.support_requests`. How near the devices are
//! to the guest's cells is the NUMATopologyFilter's question. It is not enabled in Nova unless told, and guests end up on
//! hosts without their device; here it always runs for requests that ask for one.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct PciPassthroughFilter;

impl Filter for PciPassthroughFilter {
    fn name(&self) -> &'static str {
        "PciPassthroughFilter"
    }

    fn is_placement(&self) -> bool {
        true
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::CAPACITY
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.demands().is_some_and(|demands| !demands.devices.is_empty())
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let Some(demands) = ask.demands() else { return Ok(()) };
        let devices = &demands.devices;
        let lack = host.lack(None, devices);
        lack.map_or(Ok(()), |lack| Err(Why::because(lack.words(devices))))
    }

    fn at_length(&self, host: Candidate<'_>, ask: &Ask<'_>) -> Option<String> {
        let misfit = host.misfit(None, &ask.demands()?.devices);
        misfit.map(|misfit| misfit.to_string())
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        if let Some(demands) = ask.demands() {
            hosts.keep_fitting(None, &demands.devices, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::{ask, celled, demanding, host, only_with, request, verdict};
    use crate::topology::{HeldDevice, PciAffinity, PciRequest, Pinning};
    use crate::{Claim, Demands, Options, Request, Resources, Uid};

    fn asking(alias: &str, count: u32) -> Request {
        demanding(Demands {
            devices: vec![PciRequest {
                alias: alias.to_owned(),
                count,
                affinity: PciAffinity::Required,
            }],
            ..Demands::default()
        })
    }

    #[test]
    fn a_host_passes_with_as_many_devices_as_are_asked_for_wherever_they_are() {
        // The host has one `gpu` in each of two cells, and one `nic`.
        assert_eq!(verdict("PciPassthroughFilter", celled(), &asking("gpu", 2)), Ok(()));
        assert_eq!(
            verdict("PciPassthroughFilter", celled(), &asking("gpu", 3)),
            Err("0/1 hosts: 1 PciPassthroughFilter (gpu)".to_owned())
        );
        assert_eq!(
            verdict("PciPassthroughFilter", celled(), &asking("fpga", 1)),
            Err("0/1 hosts: 1 PciPassthroughFilter (fpga)".to_owned())
        );
    }

    #[test]
    fn a_host_that_tells_of_no_devices_is_rejected_and_passes_for_who_wants_none() {
        assert_eq!(
            verdict("PciPassthroughFilter", host(), &asking("gpu", 1)),
            Err("0/1 hosts: 1 PciPassthroughFilter (gpu)".to_owned())
        );
        assert_eq!(verdict("PciPassthroughFilter", host(), &request()), Ok(()));
    }

    #[test]
    fn a_device_that_somebody_has_is_not_there() {
        let mut cluster = only_with(&Options::default(), "PciPassthroughFilter");
        cluster.upsert_host(celled());
        let pinning = Pinning {
            devices: vec![HeldDevice {
                alias: "gpu".to_owned(),
                address: "0000:01:00.0".to_owned(),
            }],
            ..Pinning::default()
        };
        let nothing = Resources::default();
        let claim = Claim {
            pinning: Some(&pinning),
            ..Claim::new("node-1", &nothing)
        };
        cluster.place_claim(&Uid::from("other"), &claim);
        assert_eq!(ask(&cluster, &asking("gpu", 1)), Ok(()));
        assert!(ask(&cluster, &asking("gpu", 2)).is_err());
        cluster.forget(&Uid::from("other"));
        assert_eq!(ask(&cluster, &asking("gpu", 2)), Ok(()));
    }
}
