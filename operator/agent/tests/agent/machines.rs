//! The machine that a Flavor and an Image ask for, in the domain that is defined.

use std::collections::BTreeMap;

use serde_json::json;
use virga_crds::{Bytes, Flavor, FlavorSpec, Image, Instance, conditions::types};
use virga_hypervisor::{DiskBus, Firmware, InterfaceModel, WatchdogAction};

use crate::world::{SHOP, World, uid};

/// A world whose Flavor `odd` and Image `debian` say this, and an Instance of both.
fn asked(specs: &[(&str, &str)], properties: &[(&str, &str)]) -> (World, Instance) {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let owned = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        owned.collect()
    };
    let mut world = World::new();
    world.api.create(&Flavor::new(
        "odd",
        FlavorSpec {
            vcpus: 4,
            memory: Bytes::mib(256),
            disk: Bytes::mib(64),
            extra_specs: map(specs),
            ..FlavorSpec::default()
        },
    ));
    let change = json!({"spec": {"properties": map(properties)}});
    world.api.merge::<Image>(Some(SHOP), "debian", change);
    world.start();
    let instance = world.instance("odd-1", |spec| spec.flavor = "odd".into());
    world.port(&instance, "10.0.0.5");
    (world, instance)
}

#[test]
fn a_domain_is_defined_as_its_flavor_and_its_image_say() {
    let (world, instance) = asked(
        &[
            ("hw:cpu_max_sockets", "1"),
            ("hw:watchdog_action", "reset"),
            ("quota:disk_read_iops_sec", "100"),
            ("quota:vif_inbound_average", "1000"),
        ],
        &[
            ("hw_firmware_type", "uefi"),
            ("hw_disk_bus", "scsi"),
            ("hw_vif_model", "e1000e"),
            ("hw_cpu_threads", "2"),
        ],
    );
    world.await_ready("odd-1");
    let spec = world.host.spec(uid(&instance)).unwrap();
    assert_eq!(
        (spec.topology.sockets, spec.topology.cores, spec.topology.threads),
        (1, 2, 2)
    );
    assert_eq!(spec.firmware, Firmware::Uefi { secure_boot: false });
    assert_eq!(
        spec.options.nvram,
        Some(world.files(&instance).join("uefi-variables.fd")),
        "it goes with the Instance's directory"
    );
    assert_eq!(spec.options.watchdog, Some(WatchdogAction::Reset));
    assert_eq!(
        (spec.disks[0].bus, spec.disks[0].io_tune.read_iops.sustained),
        (DiskBus::Scsi, Some(100))
    );
    let interface = spec.interfaces[0].options;
    assert_eq!(
        (interface.model, interface.inbound.unwrap().average_kib),
        (InterfaceModel::E1000e, 1000)
    );
}

/// Admission refuses it; this is for a time without webhooks.
#[test]
fn what_flavor_and_image_contradict_is_told_and_nothing_is_defined() {
    let (world, instance) = asked(&[("os:secure_boot", "required")], &[]);
    let ready = world.await_reason("odd-1", types::READY, "Invalid");
    let words = "spec.properties[hw_firmware_type]: must be uefi for the Flavor's os:secure_boot";
    assert!(ready.message.contains(words), "{}", ready.message);
    assert!(world.host.spec(uid(&instance)).is_none());
}
