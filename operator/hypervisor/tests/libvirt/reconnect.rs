//! A daemon that is killed or hangs, on a real libvirtd.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;
use virga_hypervisor::testing::node::Node;
use virga_hypervisor::testing::{boot_sector, eventually};
use virga_hypervisor::{
    Calls, CallsLimits, Change, CpuMode, DiskFormat, DiskSpec, DomainSpec, DomainState, DomainType, Event, EventStream,
    Hypervisor, Kind, Libvirt, LibvirtOptions, Owner, StateReason, Topology,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn guest(node: &Node) -> DomainSpec {
    let uid = Uuid::from_u128(0x0e00_0000_0000_4000_8000_0000_0000_0001);
    let owner = Owner {
        namespace: "shop".to_owned(),
        name: "web-1".to_owned(),
        uid,
        generation: 1,
    };
    let mut spec = DomainSpec::new(
        owner,
        "virga-0e000000",
        DomainType::Qemu,
        Topology::sockets(1),
        64 << 20,
    );
    spec.cpu = CpuMode::Named("qemu64".to_owned());
    spec.tcg_cache_mib = Some(16);
    let disk = node.data().join("guest.raw");
    boot_sector::write_disk(&disk).expect("writing the guest's disk");
    let mut disk = DiskSpec::new("vda", disk, DiskFormat::Raw);
    (disk.boot_order, disk.cache) = (Some(1), virga_hypervisor::Cache::Writeback);
    spec.disks.push(disk);
    spec
}

fn libvirt(options: LibvirtOptions) -> Libvirt {
    Libvirt::new(LibvirtOptions {
        max_backoff: Duration::from_millis(500),
        ..options
    })
    .expect("libvirt")
}

fn wait_for(events: &mut EventStream, wanted: &Event) {
    eventually(&format!("{wanted:?}"), PATIENCE, || {
        events.try_next().filter(|event| event == wanted)
    });
}

#[test]
fn a_killed_daemon_is_found_again_and_guests_never_notice() {
    let Some(node) = Node::start() else { return };
    let libvirt = libvirt(LibvirtOptions {
        uri: node.uri(),
        ..LibvirtOptions::default()
    });
    let mut events = libvirt.events(100);
    let spec = guest(&node);
    libvirt.define(&spec).expect("defining");
    libvirt.start(spec.uuid).expect("starting");
    let pid = node.qemu_pid(&spec.name).expect("QEMU's process");
    wait_for(
        &mut events,
        &Event::Domain {
            uuid: spec.uuid,
            change: Change::Started,
        },
    );

    assert!(node.kill_daemon().success());
    // Without any call: the broken socket tells.
    wait_for(&mut events, &Event::Disconnected);
    for _ in 0..3 {
        let error = libvirt.domains().expect_err("there is no daemon");
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert!(error.is_transient());
    }
    let soon = Instant::now();
    assert_eq!(
        libvirt.domain(spec.uuid).expect_err("there is no daemon").kind(),
        Kind::Unavailable
    );
    assert!(
        soon.elapsed() < Duration::from_secs(2),
        "a call without a daemon fails at once"
    );

    node.start_daemon();
    let info = eventually("libvirt is back", PATIENCE, || libvirt.domain(spec.uuid).ok());
    assert_eq!(info.state, DomainState::Running);
    wait_for(&mut events, &Event::Resync);
    assert_eq!(node.qemu_pid(&spec.name), Some(pid), "the guest's process is the same");
    assert_eq!(node.shell(&format!("kill -0 {pid} && echo alive")).trim(), "alive");

    // Events flow on the new connection. First make sure that libvirtd has its guest's monitor back: a guest that dies
    // while libvirtd is still busy with that ends without an event (libvirt 11.3).
    libvirt.suspend(spec.uuid).expect("suspending");
    libvirt.resume(spec.uuid).expect("resuming");
    node.shell(&format!("kill -9 {pid}"));
    wait_for(
        &mut events,
        &Event::Domain {
            uuid: spec.uuid,
            change: Change::Stopped,
        },
    );
    let info = libvirt.domain(spec.uuid).expect("reading");
    assert_eq!((info.state, info.reason), (DomainState::ShutOff, StateReason::Crashed));
    libvirt.start(spec.uuid).expect("starting after the crash");
    libvirt.destroy(spec.uuid).expect("destroying");
    libvirt.undefine(spec.uuid).expect("undefining");
}

#[test]
fn a_domain_that_the_daemon_was_killed_over_while_starting_it_is_let_go() {
    let Some(node) = Node::start() else { return };
    let options = LibvirtOptions {
        uri: node.uri(),
        ..LibvirtOptions::default()
    };
    let first = libvirt(options.clone());
    let spec = guest(&node);
    first.define(&spec).expect("defining");
    first.start(spec.uuid).expect("starting");
    let pid = node.qemu_pid(&spec.name).expect("QEMU's process");
    // What is on the disk when it is killed right after it has noted the start: a note without a process, and none.
    assert!(node.kill_daemon().success());
    let file = format!("/run/libvirt/qemu/{}.xml", spec.name);
    let edit = format!("kill -9 {pid} && sed -i \"s/ pid='{pid}'>/ pid='0'>/\" {file} && grep -c \"pid='0'\" {file}");
    assert_eq!(node.shell(&edit).trim(), "1");
    node.start_daemon();
    let state = node.shell(&format!("virsh domstate {}", spec.name));
    assert_ne!(state.trim(), "shut off", "or libvirt has mended this itself");

    let libvirt = libvirt(options);
    let error = libvirt.domain(spec.uuid).expect_err("libvirtd is started anew");
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    eventually("libvirtd ends", PATIENCE, || {
        // One that was not yet there when it was asked to end is asked again, as by an agent.
        assert_ne!(
            libvirt.domain(spec.uuid).map(|info| info.state).ok(),
            Some(DomainState::Running)
        );
        (node
            .shell("kill -0 $(cat /run/libvirt/libvirtd.pid) && echo alive")
            .trim()
            != "alive")
            .then_some(())
    });
    // As systemd would.
    node.start_daemon();
    let info = eventually("libvirt is back", PATIENCE, || libvirt.domain(spec.uuid).ok());
    assert_eq!(info.state, DomainState::ShutOff);
    assert_eq!(node.shell("ls /run/libvirt/qemu | grep half-started"), "");
    libvirt.start(spec.uuid).expect("starting");
    libvirt.destroy(spec.uuid).expect("destroying");
    libvirt.undefine(spec.uuid).expect("undefining");
}

#[test]
fn a_daemon_that_hangs_is_noticed_and_its_callers_are_let_go() {
    let Some(node) = Node::start() else { return };
    let options = LibvirtOptions {
        uri: node.uri(),
        keepalive_interval_s: 1,
        keepalive_count: 2,
        ..Default::default()
    };
    let libvirt = Arc::new(libvirt(options));
    let mut events = libvirt.events(100);
    let spec = guest(&node);
    libvirt.define(&spec).expect("defining");
    let calls = Calls::new(
        libvirt.clone(),
        CallsLimits {
            threads: 1,
            replacements: 2,
            ..CallsLimits::default()
        },
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");

    assert!(node.signal_daemon("STOP").success());
    let uuid = spec.uuid;
    let error = runtime
        .block_on(calls.domain(uuid, Duration::from_millis(300), move |h| h.domain(uuid)))
        .expect_err("the daemon hangs");
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    assert_eq!(calls.load().stuck, 1);
    // Keep-alive gives the daemon up after some 3 s, and the stuck call ends with it.
    wait_for(&mut events, &Event::Disconnected);
    eventually("the stuck call ended", PATIENCE, || {
        (calls.load().stuck == 0).then_some(())
    });

    assert!(node.signal_daemon("CONT").success());
    let info = eventually("libvirt is back", PATIENCE, || {
        runtime
            .block_on(calls.domain(uuid, Duration::from_secs(2), move |h| h.domain(uuid)))
            .ok()
    });
    assert_eq!(info.state, DomainState::ShutOff);
    wait_for(&mut events, &Event::Resync);
}

#[test]
fn a_node_leaves_nothing_behind_when_a_test_panics() {
    let Some(node) = Node::start() else { return };
    let data = node.data();
    let result = std::thread::spawn(move || {
        let _node = node;
        panic!("for the test");
    })
    .join();
    assert!(result.is_err());
    let directory = data.parent().expect("the node's directory").to_owned();
    assert!(!directory.exists(), "the directory is gone");
    let needle = directory.display().to_string();
    let left = std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("mountinfo")).ok())
        .any(|mounts| mounts.contains(&needle));
    assert!(!left, "no process and no mount of it is left");
}
