//! CPUs, pages and devices of the host that Instances have to themselves.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use serde_json::json;
use virga_agent::host::Moment;
use virga_crds::{
    Bytes, CpuPartition, Flavor, FlavorSpec, Hypervisor, HypervisorSpec, HypervisorStatus, Instance, InstanceTopology,
    PciDeviceSelector, conditions::types,
};
use virga_hypervisor::{Affinity, DomainState, PageFacts, PciFacts, PciKind};

use crate::{
    crashes::{Trap, trap},
    leader::answer,
    world::{NODE, World, uid},
};

/// A host whose CPUs 0 to 3 are shared and whose others are given away, and an agent.
fn cut_world() -> World {
    let world = World::new();
    cut(&world, "0-3", "4-7");
    world
}

fn cut(world: &World, shared: &str, dedicated: &str) {
    world.api.create(&Hypervisor::new(
        NODE,
        HypervisorSpec {
            cpus: Some(CpuPartition {
                shared: Some(shared.into()),
                dedicated: Some(dedicated.into()),
            }),
            ..HypervisorSpec::default()
        },
    ));
}

/// A Flavor of two CPUs and 256 MiB with these extra specs.
fn flavor(world: &World, name: &str, extra_specs: &[(&str, &str)]) {
    let extra = extra_specs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    world.api.create(&Flavor::new(
        name,
        FlavorSpec {
            vcpus: 2,
            memory: Bytes::mib(256),
            disk: Bytes::mib(64),
            extra_specs: extra.collect(),
            ..FlavorSpec::default()
        },
    ));
}

/// An Instance of that flavor with its Port.
fn guest(world: &World, name: &str, flavor: &str, last: u8) -> Instance {
    let instance = world.instance(name, |spec| spec.flavor = flavor.into());
    world.port(&instance, &format!("10.0.0.{last}"));
    instance
}

fn topology(world: &World, name: &str) -> Option<InstanceTopology> {
    world.read::<Instance>(name)?.status?.topology
}

/// The host's CPUs that an Instance has to itself, as its status says.
fn told_cpus(world: &World, name: &str) -> BTreeSet<u32> {
    let cells = topology(world, name).unwrap_or_default().cells;
    cells.iter().flat_map(|cell| &cell.pins).map(|pin| pin.cpu).collect()
}

/// The same, as its domain is defined.
fn defined_cpus(world: &World, instance: &Instance) -> BTreeSet<u32> {
    let Affinity::Cells { cells, .. } = world.host.spec(uid(instance)).unwrap().affinity else {
        return BTreeSet::new();
    };
    let vcpus = cells.iter().flat_map(|cell| cell.vcpus.values());
    vcpus
        .inspect(|cpus| assert_eq!(cpus.len(), 1))
        .flatten()
        .copied()
        .collect()
}

fn hypervisor(world: &World) -> HypervisorStatus {
    let hypervisor: Option<Hypervisor> = world.api.read(None, NODE);
    hypervisor.and_then(|hypervisor| hypervisor.status).unwrap_or_default()
}

/// What the Hypervisor says of its topology: whether it holds, and the message.
fn topology_valid(world: &World) -> (bool, String) {
    let conditions = hypervisor(world).conditions;
    let valid = conditions
        .into_iter()
        .find(|condition| condition.type_ == types::TOPOLOGY_VALID);
    valid.map_or((false, String::new()), |valid| (valid.status == "True", valid.message))
}

const PINNED: &[(&str, &str)] = &[("hw:cpu_policy", "dedicated")];

#[test]
fn a_pinned_guest_has_cpus_of_its_own_and_is_told_which_without_a_write_more() {
    let mut world = cut_world();
    flavor(&world, "pinned", PINNED);
    world.start();
    world.settle();
    let instance = guest(&world, "db-1", "pinned", 5);
    world.await_ready("db-1");
    let cpus = told_cpus(&world, "db-1");
    assert_eq!((cpus.len(), defined_cpus(&world, &instance)), (2, cpus.clone()));
    assert!(cpus.is_subset(&(4..8).collect()), "{cpus:?}");
    world.settle();
    let told: Vec<String> = world.writes_about("db-1").iter().map(ToString::to_string).collect();
    assert!(told.len() <= 3, "{told:#?}");
    // A guest without CPUs of its own keeps off those that are given away.
    let web = world.guest("web-1", "10.0.0.6");
    world.await_ready("web-1");
    assert_eq!(
        world.host.spec(uid(&web)).unwrap().affinity,
        Affinity::Cpus([0, 1, 2, 3].into())
    );
    assert_eq!(topology(&world, "web-1"), None);
    // CPUs of one's own are none of those that are promised.
    world.eventually("what is promised is told", || {
        hypervisor(&world)
            .allocated
            .is_some_and(|all| all.vcpus == 1 && all.memory == Bytes::mib(512))
    });
}

#[test]
fn a_resized_guest_gets_other_cpus_and_keeps_those_that_it_had_until_that_is_final() {
    let mut world = cut_world();
    flavor(&world, "pinned", PINNED);
    flavor(&world, "shared", &[]);
    world.api.create(&Flavor::new(
        "wide",
        FlavorSpec {
            vcpus: 4,
            memory: Bytes::mib(256),
            disk: Bytes::mib(64),
            extra_specs: [("hw:cpu_policy".to_owned(), "dedicated".to_owned())].into(),
            ..FlavorSpec::default()
        },
    ));
    world.start();
    let (web, other) = (guest(&world, "web-1", "pinned", 5), guest(&world, "db-2", "pinned", 6));
    world.await_ready("web-1");
    world.await_ready("db-2");
    let resize = |flavor: &str| {
        world.edit("web-1", &json!({"flavor": flavor, "resizePolicy": "Confirm"}));
        answer(&world, None);
    };
    let has = |what: &str, cpus: &BTreeSet<u32>| {
        world.eventually(what, || {
            world.is_ready("web-1") && told_cpus(&world, "web-1") == *cpus && defined_cpus(&world, &web) == *cpus
        });
    };
    let (two, theirs) = (told_cpus(&world, "web-1"), told_cpus(&world, "db-2"));

    // While the other has two of the four it runs on as it is.
    resize("wide");
    world.eventually("it is refused", || {
        world
            .condition("web-1", types::READY)
            .is_some_and(|ready| ready.reason == "ResizeRefused" && ready.message.contains("can't give it what wide"))
    });
    assert_eq!(world.domain(&web).unwrap().state, DomainState::Running);
    assert_eq!(defined_cpus(&world, &web), two);

    world.delete("db-2");
    world.await_gone::<Instance>("db-2");
    world.nudge("web-1");
    let all: BTreeSet<u32> = (4..8).collect();
    has("it has all four", &all);

    // Taken back: the very ones that it had.
    resize("pinned");
    has("it has its own two again", &two);
    assert_eq!(told_cpus(&world, "db-2"), BTreeSet::new());

    // With none of its own it may still go back; then that is final.
    resize("shared");
    has("it has none", &BTreeSet::new());
    guest(&world, "db-3", "wide", 7);
    world.await_reason("db-3", types::SCHEDULED, "HostRejected");
    world.edit("web-1", &json!({"confirmResize": "shared"}));
    world.eventually("it is final", || {
        let status = world.read::<Instance>("web-1").and_then(|found| found.status);
        let resize = status.and_then(|status| status.resize);
        resize.is_some_and(|resize| resize.confirmed_at.is_some())
    });
    world.delete("db-3");
    world.await_gone::<Instance>("db-3");
    guest(&world, "db-4", "wide", 8);
    world.await_ready("db-4");
    assert!(told_cpus(&world, "db-4") == all && theirs.is_subset(&all) && theirs.is_disjoint(&two));
    assert_ne!(uid(&other), uid(&web));
}

#[test]
fn two_guests_never_share_a_cpu_and_one_too_many_is_rejected_until_another_goes() {
    let mut world = cut_world();
    flavor(&world, "pinned", PINNED);
    world.start();
    for (name, last) in [("db-1", 5), ("db-2", 6)] {
        guest(&world, name, "pinned", last);
    }
    world.await_ready("db-1");
    world.await_ready("db-2");
    let (one, two) = (told_cpus(&world, "db-1"), told_cpus(&world, "db-2"));
    assert_eq!((one.len(), two.len(), one.intersection(&two).count()), (2, 2, 0));
    let third = guest(&world, "db-3", "pinned", 7);
    let scheduled = world.await_reason("db-3", types::SCHEDULED, "HostRejected");
    assert!(scheduled.message.contains("dedicated"), "{}", scheduled.message);
    assert!(!world.files(&third).exists());
    assert_eq!(topology(&world, "db-3"), None);

    // What a guest that is off has stays its own, and what one had that is gone is free.
    world.edit("db-1", &json!({"powerState": "Stopped"}));
    world.await_ready("db-1");
    guest(&world, "db-4", "pinned", 8);
    world.await_reason("db-4", types::SCHEDULED, "HostRejected");
    world.delete("db-2");
    world.await_gone::<Instance>("db-2");
    guest(&world, "db-5", "pinned", 9);
    world.await_ready("db-5");
    assert_eq!(told_cpus(&world, "db-5"), two);
    assert_eq!(told_cpus(&world, "db-1"), one);
}

/// Stops an agent for ever at one point.
#[test]
fn an_agent_killed_between_claim_and_definition_is_followed_by_one_that_keeps_the_claim() {
    for (moment, effect) in [
        (Moment::Before, "PullImage"),
        (Moment::Before, "Define"),
        (Moment::After, "Define"),
    ] {
        let mut world = cut_world();
        flavor(&world, "pinned", PINNED);
        let Trap { reached, checkpoint } = trap(moment, effect);
        world.start_with_checkpoint(checkpoint);
        let first = guest(&world, "db-1", "pinned", 5);
        world.eventually(effect, || reached.load(Ordering::SeqCst));
        world.kill();
        let note = std::fs::read_to_string(world.files(&first).join("topology.json")).unwrap();
        let claimed: InstanceTopology = serde_json::from_str(&note).unwrap();
        // Operators cut the host anew while no agent looks, and another guest comes that could have those CPUs.
        let dedicated = json!({"spec": {"cpus": {"shared": "0-1", "dedicated": "2-7"}}});
        world.api.merge::<Hypervisor>(None, NODE, dedicated);
        let second = guest(&world, "db-2", "pinned", 6);
        world.api.clock().jump(jiff::SignedDuration::from_secs(10));
        world.start();
        world.await_ready("db-1");
        world.await_ready("db-2");
        assert_eq!(topology(&world, "db-1"), Some(claimed), "{moment:?} {effect}");
        let (one, two) = (defined_cpus(&world, &first), defined_cpus(&world, &second));
        assert_eq!(one, told_cpus(&world, "db-1"));
        assert!(one.len() == 2 && one.is_disjoint(&two), "{one:?} {two:?}");
    }
}

#[test]
fn a_guest_keeps_its_cpus_through_restarts_and_what_operators_change_meanwhile() {
    let mut world = cut_world();
    flavor(&world, "pinned", PINNED);
    world.start();
    let first = guest(&world, "db-1", "pinned", 5);
    world.await_ready("db-1");
    let cpus = told_cpus(&world, "db-1");
    world.kill();
    let now = json!({"spec": {"cpus": {"shared": "4-7", "dedicated": "0-1"}}});
    world.api.merge::<Hypervisor>(None, NODE, now);
    world.start();
    world.eventually("it is told of", || {
        let (valid, message) = topology_valid(&world);
        !valid && message.contains("shop/db-1") && message.contains("spec.cpus.dedicated")
    });
    world.host.crash_guest(uid(&first));
    world.await_reason("db-1", types::RUNNING, "GuestCrashed");
    world.api.clock().jump(jiff::SignedDuration::from_secs(10));
    world.nudge("db-1");
    world.await_ready("db-1");
    assert_eq!(world.domain(&first).unwrap().state, DomainState::Running);
    assert_eq!(told_cpus(&world, "db-1"), cpus);
    assert_eq!(defined_cpus(&world, &first), cpus);
    let second = guest(&world, "db-2", "pinned", 6);
    world.await_ready("db-2");
    assert_eq!(defined_cpus(&world, &second), [0, 1].into());
    let web = world.guest("web-1", "10.0.0.7");
    world.await_ready("web-1");
    assert_eq!(
        world.host.spec(uid(&web)).unwrap().affinity,
        Affinity::Cpus([4, 5, 6, 7].into())
    );
    let third = json!({"spec": {"cpus": {"shared": "0-3", "dedicated": "4-7"}}});
    world.delete("db-2");
    world.await_gone::<Instance>("db-2");
    world.api.merge::<Hypervisor>(None, NODE, third);
    world.eventually("all is as named", || topology_valid(&world).0);
}

#[test]
fn memory_comes_from_huge_pages_as_long_as_there_are_some() {
    let mut world = cut_world();
    world.host.change_facts(|facts| {
        facts.cells[0].pages.push(PageFacts {
            size_kib: 2048,
            total: 200,
        });
    });
    flavor(&world, "huge", &[("hw:mem_page_size", "2MB")]);
    world.start();
    let first = guest(&world, "db-1", "huge", 5);
    world.await_ready("db-1");
    let Affinity::Cells { cells, .. } = world.host.spec(uid(&first)).unwrap().affinity else {
        panic!("no cells");
    };
    assert_eq!((cells.len(), cells[0].huge_pages_kib), (1, Some(2048)));
    assert_eq!(cells[0].vcpus[&0], [0, 1, 2, 3].into());
    guest(&world, "db-2", "huge", 6);
    let scheduled = world.await_reason("db-2", types::SCHEDULED, "HostRejected");
    assert!(scheduled.message.contains("2048 KiB"), "{}", scheduled.message);
    // More are reserved: the next claim knows.
    world.host.change_facts(|facts| facts.cells[0].pages[1].total = 300);
    guest(&world, "db-3", "huge", 7);
    world.await_ready("db-3");
    let told = topology(&world, "db-3").unwrap();
    assert_eq!(told.cells[0].page_size, Some(Bytes::mib(2)));
}

fn device(address: &str, iommu_group: Option<u32>) -> PciFacts {
    PciFacts {
        address: address.parse().unwrap(),
        vendor: 0x10de,
        product: 0x20f1,
        kind: PciKind::Plain,
        cell: Some(0),
        iommu_group,
        driver: Some("nvidia".into()),
    }
}

#[test]
fn a_device_is_one_guests_until_it_is_gone_and_only_named_ones_are_told_of() {
    let mut world = World::new();
    world.host.change_facts(|facts| {
        let mut other = device("0000:af:00.0", Some(9));
        other.vendor = 0x8086;
        facts.pci_devices = vec![device("0000:3b:00.0", Some(7)), device("0000:5e:00.0", None), other];
    });
    let selector = |address: Option<&str>| PciDeviceSelector {
        alias: "a100".into(),
        address: address.map(Into::into),
        vendor_id: address.is_none().then(|| "10de".into()),
        product_id: None,
    };
    world.api.create(&Hypervisor::new(
        NODE,
        HypervisorSpec {
            pci_devices: vec![selector(None), selector(Some("0000:00:1f.0"))],
            ..HypervisorSpec::default()
        },
    ));
    flavor(&world, "gpu", &[("pci_passthrough:alias", "a100:1")]);
    world.start();
    world.eventually("its devices are told of", || !hypervisor(&world).pci_devices.is_empty());
    let told: Vec<_> = hypervisor(&world)
        .pci_devices
        .into_iter()
        .map(|device| (device.address, device.alias, device.cell))
        .collect();
    assert_eq!(told, [("0000:3b:00.0".to_owned(), "a100".to_owned(), Some(0))]);
    let (valid, message) = topology_valid(&world);
    assert!(!valid, "{message}");
    assert!(
        message.contains("spec.pciDevices[0]: 0000:5e:00.0 has no IOMMU group"),
        "{message}"
    );
    assert!(message.contains("spec.pciDevices[1]: names no device"), "{message}");
    let cells = hypervisor(&world).cells;
    assert_eq!(
        (cells.len(), cells[0].cpus.as_str(), cells[0].memory),
        (1, "0-7", Bytes::gib(16))
    );

    let first = guest(&world, "ai-1", "gpu", 5);
    world.await_ready("ai-1");
    let has = |name: &str| topology(&world, name).unwrap().pci_devices[0].address.clone();
    assert_eq!(has("ai-1"), "0000:3b:00.0");
    let spec = world.host.spec(uid(&first)).unwrap();
    assert_eq!(spec.pci_devices, ["0000:3b:00.0".parse().unwrap()]);
    assert_eq!(spec.affinity, Affinity::Any);
    guest(&world, "ai-2", "gpu", 6);
    let scheduled = world.await_reason("ai-2", types::SCHEDULED, "HostRejected");
    assert!(scheduled.message.contains("a100"), "{}", scheduled.message);
    world.delete("ai-1");
    world.await_gone::<Instance>("ai-1");
    guest(&world, "ai-3", "gpu", 7);
    world.await_ready("ai-3");
    assert_eq!(has("ai-3"), "0000:3b:00.0");
}

#[test]
fn an_image_may_come_late_and_have_its_say_before_anything_is_claimed() {
    let mut world = cut_world();
    flavor(&world, "plain", &[]);
    world.start();
    let instance = world.instance("db-1", |spec| {
        spec.flavor = "plain".into();
        spec.image.as_mut().unwrap().name = "late".into();
    });
    world.port(&instance, "10.0.0.5");
    world.await_reason("db-1", types::STORAGE_READY, "ImageNotFound");
    assert!(!world.files(&instance).exists());
    // The image is there, and asks for CPUs of its own.
    let file = world.path().join("store/late.qcow2");
    std::fs::copy(world.path().join("store/debian.qcow2"), &file).unwrap();
    let mut image: virga_crds::Image = world.read("debian").unwrap();
    image.metadata = virga_crds::Image::new("late", image.spec.clone()).metadata;
    image.metadata.namespace = Some(crate::world::SHOP.into());
    image.spec.source.path = Some("late.qcow2".into());
    image.spec.properties = [("hw_cpu_policy".to_owned(), "dedicated".to_owned())].into();
    image.status = None;
    world.api.create(&image);
    world.await_ready("db-1");
    assert_eq!(told_cpus(&world, "db-1").len(), 2);
}
