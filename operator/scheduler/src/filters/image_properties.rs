//! ImagePropertiesFilter: the host can run the kind of guest that the image is made for.
//!
//! Nova: `nova/scheduler/filters/image_props_filter.py`. One of the host's kinds of guests has the architecture, hypervisor
//! type and mode that the image names (`hw_architecture`, `img_hv_type`, `hw_vm_mode`); then the hypervisor's version
//! satisfies `img_hv_requested_version` and the processor has `hw_maxphysaddr_bits`. A host that does not say which version
//! or width it has passes.

use super::{Filter, Why};
use crate::bits::Bits;
use crate::guest::Lack;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct ImagePropertiesFilter;

impl Filter for ImagePropertiesFilter {
    fn name(&self) -> &'static str {
        "ImagePropertiesFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::PLATFORM
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        !ask.guest.is_any()
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let Some(platform) = host.platform() else {
            return Err(Why::PLAIN);
        };
        ask.guest.check(platform).map_err(|lack| match lack {
            Lack::Kind => Why::PLAIN,
            Lack::Version => Why::because("version of the hypervisor"),
            Lack::AddressBits => Why::because("width of physical addresses"),
        })
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        hosts
            .platforms()
            .keep(left, |platform| ask.guest.check(platform).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use crate::fixtures::{host, only_with, request, verdict};
    use crate::{Cpu, Host, ImageFacts, Options, Platform, Request, Supported};

    const NAME: &str = "ImagePropertiesFilter";

    fn image(properties: &[(&str, &str)]) -> Request {
        let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        let image = ImageFacts {
            uid: "image".to_owned(),
            properties: properties.iter().map(owned).collect(),
        };
        Request {
            image: Some(Arc::new(image)),
            ..request()
        }
    }

    /// Runs x86_64 with KVM and aarch64 emulated; QEMU 8.2.0, 46 bits of physical addresses.
    fn both() -> Host {
        let supported = |architecture: &str, hypervisor: &str| Supported {
            architecture: architecture.to_owned(),
            hypervisor: hypervisor.to_owned(),
            mode: "hvm".to_owned(),
        };
        let platform = Platform {
            hypervisor_type: "QEMU".to_owned(),
            hypervisor_version: 8_002_000,
            supported: BTreeSet::from([supported("x86_64", "kvm"), supported("aarch64", "qemu")]),
            cpu: Cpu {
                maxphysaddr_bits: 46,
                ..Cpu::default()
            },
        };
        Host {
            platform: Arc::new(platform),
            ..host()
        }
    }

    fn rejected(why: &str) -> Result<(), String> {
        Err(format!("0/1 hosts: 1 {NAME}{why}"))
    }

    #[test]
    fn one_kind_of_guest_must_have_all_that_is_asked_for() {
        for (properties, expected) in [
            (
                &[
                    ("hw_architecture", "x86_64"),
                    ("img_hv_type", "kvm"),
                    ("hw_vm_mode", "hvm"),
                ][..],
                Ok(()),
            ),
            (&[("hw_architecture", "aarch64")], Ok(())),
            (&[("hw_architecture", "AMD64")], Ok(())),
            (&[("hw_architecture", "aarch64"), ("img_hv_type", "kvm")], rejected("")),
            (&[("hw_architecture", "ppc64le")], rejected("")),
            (&[("hw_vm_mode", "xen")], rejected("")),
            (&[("os_distro", "debian")], Ok(())),
        ] {
            assert_eq!(verdict(NAME, both(), &image(properties)), expected, "{properties:?}");
        }
    }

    #[test]
    fn the_version_and_the_width_of_addresses_must_do() {
        let asking = |key, value| image(&[("hw_architecture", "x86_64"), (key, value)]);
        assert_eq!(
            verdict(NAME, both(), &asking("img_hv_requested_version", ">=8.0,<9.0")),
            Ok(())
        );
        assert_eq!(
            verdict(NAME, both(), &asking("img_hv_requested_version", ">=9.0")),
            rejected(" (version of the hypervisor)")
        );
        assert_eq!(verdict(NAME, both(), &asking("hw_maxphysaddr_bits", "46")), Ok(()));
        assert_eq!(
            verdict(NAME, both(), &asking("hw_maxphysaddr_bits", "47")),
            rejected(" (width of physical addresses)")
        );
        assert_eq!(
            verdict(NAME, host(), &asking("img_hv_requested_version", ">=9.0")),
            Ok(()),
            "unknown"
        );
    }

    #[test]
    fn a_host_that_names_no_kinds_runs_its_own_architecture_with_its_domain_types() {
        let plain = Host {
            domain_types: BTreeSet::from(["qemu".to_owned()]),
            ..host()
        };
        let asking = |architecture: &str| Request {
            architecture: Some(architecture.to_owned()),
            ..request()
        };
        assert_eq!(verdict(NAME, plain.clone(), &asking("x86_64")), Ok(()));
        assert_eq!(verdict(NAME, plain.clone(), &asking("aarch64")), rejected(""));
        assert_eq!(verdict(NAME, plain.clone(), &image(&[("img_hv_type", "QEMU")])), Ok(()));
        assert_eq!(verdict(NAME, plain, &image(&[("img_hv_type", "kvm")])), rejected(""));
        assert_eq!(verdict(NAME, host(), &request()), Ok(()));
    }

    #[test]
    fn an_image_that_names_no_architecture_has_the_operator_s() {
        let options = Options {
            image_properties_default_architecture: Some("aarch64".to_owned()),
            ..Options::default()
        };
        let mut cluster = only_with(&options, NAME);
        cluster.upsert_host(host());
        assert!(cluster.dry_run(&request()).is_err());
        assert!(cluster.dry_run(&image(&[("hw_architecture", "x86_64")])).is_ok());
    }
}
