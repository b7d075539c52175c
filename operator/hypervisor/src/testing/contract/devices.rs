//! The contract's part on devices that come and go.

use std::path::{Path, PathBuf};

use super::{Ability, PATIENCE, Setting, expect_kind};
use crate::testing::eventually;
use crate::{
    Cache, Device, DeviceName, DiskFormat, DiskSpec, DomainDevices, ForwardMode, InterfaceOptions, InterfaceSource,
    InterfaceSpec, Kind, MacAddress, NetworkSpec, Owner, Side, SubnetSpec,
};

const MAC: MacAddress = MacAddress([0xfa, 0x16, 0x3e, 0, 0, 0x61]);

pub(super) fn check(setting: &Setting<'_>) {
    what_a_domain_is_defined_with_is_read(setting);
    if !setting.can(Ability::PlugDevices) {
        return;
    }
    devices_come_and_go_on_each_side(setting);
    what_is_plugged_into_what_is_off_is_there_at_the_next_start(setting);
    a_target_is_given_once(setting);
}

fn disk(setting: &Setting<'_>, name: &str, target: &str) -> DiskSpec {
    let path = setting.data.join(name);
    std::fs::write(&path, vec![0; 1 << 20]).expect("writing a disk");
    DiskSpec {
        serial: Some(name.to_owned()),
        cache: Cache::Writeback,
        ..DiskSpec::new(target, path, DiskFormat::Raw)
    }
}

fn network(setting: &Setting<'_>) -> NetworkSpec {
    let uid = uuid::Uuid::from_u128(0x0e00_0000_0000_4000_8000_0000_0000_0001);
    let spec = NetworkSpec {
        uuid: uid,
        name: "virga-devices".to_owned(),
        owner: Owner {
            namespace: "shop".to_owned(),
            name: "front".to_owned(),
            uid,
            generation: 1,
        },
        bridge: "vbrdevices".to_owned(),
        mode: ForwardMode::Isolated,
        mtu: None,
        domain: None,
        subnets: vec![SubnetSpec {
            address: "10.67.0.1".parse().expect("an address"),
            prefix: 24,
            dhcp: None,
        }],
        dns_hosts: Vec::new(),
    };
    setting.hypervisor.define_network(&spec).expect("defining the network");
    setting.hypervisor.start_network(uid).expect("starting the network");
    spec
}

fn paths(devices: &DomainDevices, side: Side) -> Vec<PathBuf> {
    let disks = devices.on(side).map_or(&[][..], |devices| &devices.disks);
    disks.iter().filter_map(|disk| disk.path.clone()).collect()
}

fn what_a_domain_is_defined_with_is_read(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let mut spec = setting.domain(20);
    spec.title = Some("shop/web <20>".to_owned());
    let uuid = spec.uuid;
    expect_kind(hypervisor.devices(uuid), Kind::NotFound, "reading devices");
    hypervisor.define(&spec).expect("defining");
    let read = hypervisor.devices(uuid).expect("reading");
    assert_eq!(
        (paths(&read, Side::Defined), &read.running),
        (vec![spec.disks[0].path.clone()], &None)
    );
    let defined = &read.defined;
    assert_eq!((defined.vcpus, defined.memory_bytes), (1, 64 << 20));
    assert_eq!(
        (&defined.title, defined.owner.as_ref()),
        (&spec.title, Some(&spec.owner))
    );
    hypervisor.start(uuid).expect("starting");
    let running = hypervisor.devices(uuid).expect("reading").running.expect("it runs");
    assert_eq!((running.vcpus, &running.disks), (1, &defined.disks));
    super::domains::remove(setting, uuid);
}

fn devices_come_and_go_on_each_side(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let network = network(setting);
    let spec = setting.domain(21);
    let uuid = spec.uuid;
    let root = spec.disks[0].path.clone();
    let disk = disk(setting, "late.raw", "vdc");
    let late = disk.path.clone();
    let interface = InterfaceSpec {
        mac: MAC,
        source: InterfaceSource::Network(network.name.clone()),
        mtu: None,
        alias: Some("ua-late".to_owned()),
        options: InterfaceOptions::default(),
    };
    let all = [Device::Disk(Box::new(disk)), Device::Interface(interface)];
    expect_kind(
        hypervisor.attach(uuid, &all[0], Side::Defined),
        Kind::NotFound,
        "plugging into nothing",
    );
    expect_kind(
        hypervisor.detach(uuid, &all[0].name(), Side::Defined),
        Kind::NotFound,
        "unplugging from nothing",
    );
    hypervisor.define(&spec).expect("defining");
    expect_kind(
        hypervisor.attach(uuid, &all[0], Side::Running),
        Kind::InvalidState,
        "plugging into what is off",
    );

    hypervisor.start(uuid).expect("starting");
    let free = |side: Side| {
        hypervisor
            .devices(uuid)
            .expect("reading")
            .on(side)
            .and_then(|on| on.free_ports)
    };
    let before = free(Side::Running);
    for device in &all {
        for _ in 0..2 {
            hypervisor.attach(uuid, device, Side::Running).expect("plugging in");
        }
    }
    let read = hypervisor.devices(uuid).expect("reading");
    assert_eq!(paths(&read, Side::Running), [root.clone(), late.clone()]);
    assert_eq!(paths(&read, Side::Defined), [root.as_path()], "each side for itself");
    let on = read.running.as_ref().expect("it runs");
    for plugged in on.interfaces.iter().filter(|plugged| plugged.mac == MAC) {
        assert_eq!(plugged.alias.as_deref(), Some("ua-late"));
    }
    assert!(all.iter().all(|device| on.has(&device.name())));
    assert_eq!(before, Some(spec.hotplug_ports));
    assert_eq!(free(Side::Running), Some(spec.hotplug_ports - 2));
    for device in &all {
        for _ in 0..2 {
            hypervisor.attach(uuid, device, Side::Defined).expect("plugging in");
        }
    }
    assert_eq!(
        paths(&hypervisor.devices(uuid).expect("reading"), Side::Defined),
        [root.clone(), late.clone()]
    );

    for device in all.iter().chain(&all[..1]) {
        hypervisor
            .detach(uuid, &device.name(), Side::Running)
            .expect("asking the guest to let go");
    }
    if setting.can(Ability::GuestsLetGoOfDevices) {
        eventually("the guest let go of all", PATIENCE, || {
            let read = hypervisor.devices(uuid).expect("reading").running.expect("it runs");
            all.iter().all(|device| !read.has(&device.name())).then_some(())
        });
    }
    for device in &all {
        for _ in 0..2 {
            hypervisor
                .detach(uuid, &device.name(), Side::Defined)
                .expect("unplugging");
        }
    }
    hypervisor.destroy(uuid).expect("destroying");
    let read = hypervisor.devices(uuid).expect("reading");
    assert_eq!((paths(&read, Side::Defined), read.running), (vec![root], None));
    assert!(Path::new(&late).exists(), "a disk's file is not libvirt's to remove");
    super::domains::remove(setting, uuid);
    hypervisor.remove_network(network.uuid).expect("removing the network");
}

fn what_is_plugged_into_what_is_off_is_there_at_the_next_start(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let spec = setting.domain(22);
    let uuid = spec.uuid;
    hypervisor.define(&spec).expect("defining");
    let disk = disk(setting, "off.raw", "vdb");
    let name = DeviceName::Disk(disk.path.clone());
    hypervisor
        .attach(uuid, &Device::Disk(Box::new(disk)), Side::Defined)
        .expect("plugging in");
    hypervisor.start(uuid).expect("starting");
    assert!(
        hypervisor
            .devices(uuid)
            .expect("reading")
            .running
            .expect("it runs")
            .has(&name)
    );
    hypervisor.detach(uuid, &name, Side::Defined).expect("unplugging");
    hypervisor.destroy(uuid).expect("destroying");
    hypervisor.start(uuid).expect("starting");
    assert!(
        !hypervisor
            .devices(uuid)
            .expect("reading")
            .running
            .expect("it runs")
            .has(&name)
    );
    super::domains::remove(setting, uuid);
}

fn a_target_is_given_once(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let spec = setting.domain(23);
    hypervisor.define(&spec).expect("defining");
    let second = Device::Disk(Box::new(disk(setting, "second.raw", "vda")));
    expect_kind(
        hypervisor.attach(spec.uuid, &second, Side::Defined),
        Kind::AlreadyExists,
        "a target that is taken",
    );
    let mut odd = disk(setting, "odd.raw", "vdb");
    odd.serial = Some("more than twenty bytes long".to_owned());
    expect_kind(
        hypervisor.attach(spec.uuid, &Device::Disk(Box::new(odd)), Side::Defined),
        Kind::Invalid,
        "a serial that is too long",
    );
    super::domains::remove(setting, spec.uuid);
}
