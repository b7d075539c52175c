//! What guests use and say, on a real libvirtd: figures, disks that fail, interrupts, and agents that answer, stay silent
//! or flood their channel.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use uuid::Uuid;
use virga_hypervisor::testing::eventually;
use virga_hypervisor::testing::node::Node;
use virga_hypervisor::{
    Cache, Change, CpuMode, DiskFormat, DiskSpec, DomainSpec, DomainState, DomainType, DomainUsage, Event, Hypervisor,
    Kind, Libvirt, Owner, Password, StateReason, Topology,
};

use crate::stage::{connect, text};

/// Guests are emulated, and a whole Linux boots in some, beside other tests.
const PATIENCE: Duration = Duration::from_mins(3);

/// Waits for interrupts; each non-maskable one writes an `N` to the serial port.
const HEARS_NMI: &[u8] = &[
    0x31, 0xc0, //                   xor ax, ax
    0x8e, 0xd8, //                   mov ds, ax
    0xc7, 0x06, 0x08, 0x00, 0x14, 0x7c, // mov word [8], 0x7c14   ; vector 2: the handler below
    0xc7, 0x06, 0x0a, 0x00, 0x00, 0x00, // mov word [10], 0
    0xfb, //                         sti
    0xf4, //                         hlt
    0xeb, 0xfc, //                   jmp to sti
    0xba, 0xf8, 0x03, //             mov dx, 0x3f8
    0xb0, 0x4e, //                   mov al, 'N'
    0xee, //                         out dx, al
    0xcf, //                         iret
];

/// Writes 8 KiB after 8 KiB to its disk, by the BIOS.
const WRITES: &[u8] = &[
    0x31, 0xc0, //                   xor ax, ax
    0x8e, 0xd8, //                   mov ds, ax
    0x8e, 0xd0, //                   mov ss, ax
    0xbc, 0x00, 0x7c, //             mov sp, 0x7c00
    0xbe, 0x80, 0x7c, // again:      mov si, 0x7c80         ; what to write: see `sector`
    0xb8, 0x00, 0x43, //             mov ax, 0x4300         ; extended write
    0xb2, 0x80, //                   mov dl, 0x80
    0xcd, 0x13, //                   int 0x13
    0x83, 0x06, 0x88, 0x7c, 0x10, // add word [0x7c88], 16
    0x83, 0x16, 0x8a, 0x7c, 0x00, // adc word [0x7c8a], 0
    0xeb, 0xea, //                   jmp again
];
/// Sixteen sectors from 0x1000:0, to the 64th sector.
const PACKET: &[u8] = &[0x10, 0, 16, 0, 0, 0, 0, 0x10, 64, 0, 0, 0, 0, 0, 0, 0];

fn sector(code: &[u8]) -> Vec<u8> {
    let mut sector = code.to_vec();
    sector.resize(0x80, 0);
    sector.extend_from_slice(PACKET);
    sector.resize(510, 0);
    sector.extend_from_slice(&[0x55, 0xaa]);
    sector.resize(1 << 20, 0);
    sector
}

/// A domain that boots from this disk.
fn domain(node: &Node, number: u128, disk: PathBuf, format: DiskFormat) -> DomainSpec {
    let uid = Uuid::from_u128(0x0d00_0000_0000_4000_8000_0000_0000_0000 | number);
    let owner = Owner {
        namespace: "shop".to_owned(),
        name: format!("web-{number}"),
        uid,
        generation: 1,
    };
    let name = format!("virga-d{number:07x}");
    let mut spec = DomainSpec::new(owner, name, DomainType::Qemu, Topology::sockets(1), 64 << 20);
    spec.cpu = CpuMode::Named("qemu64".to_owned());
    spec.tcg_cache_mib = Some(16);
    spec.console_log = Some(node.data().join(format!("{number}.log")));
    spec.disks = vec![DiskSpec {
        boot_order: Some(1),
        cache: Cache::Writeback,
        ..DiskSpec::new("vda", disk, format)
    }];
    spec
}

fn run(libvirt: &Libvirt, spec: &DomainSpec) {
    libvirt.define(spec).expect("defining");
    libvirt.start(spec.uuid).expect("starting");
}

fn usage(libvirt: &Libvirt, uuid: Uuid) -> Option<DomainUsage> {
    libvirt.usage(&[uuid]).expect("reading what it uses").pop()
}

fn console(node: &Node, number: u128) -> String {
    let log = std::fs::read(node.data().join(format!("{number}.log"))).unwrap_or_default();
    String::from_utf8_lossy(&log).into_owned()
}

#[test]
fn what_running_domains_use_is_read_at_once_and_of_those_that_were_asked_for() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    let disk = node.data().join("nmi.raw");
    std::fs::write(&disk, sector(HEARS_NMI)).expect("writing a disk");
    let spec = domain(&node, 1, disk, DiskFormat::Raw);
    libvirt.define(&spec).expect("defining");
    assert_eq!(usage(&libvirt, spec.uuid), None, "it does not run");
    libvirt.start(spec.uuid).expect("starting");
    let used = eventually("it has read its disk", PATIENCE, || {
        usage(&libvirt, spec.uuid).filter(|used| used.disks[0].read_bytes.is_some_and(|read| read >= 512))
    });
    assert!(used.cpu_ns.is_some_and(|time| time > 0), "{used:?}");
    assert!(used.memory.resident.is_some_and(|bytes| bytes > 1 << 20), "{used:?}");
    assert_eq!(used.memory.balloon, Some(64 << 20));
    assert_eq!((used.disks[0].target.as_str(), used.disks.len()), ("vda", 1));
    assert_eq!(libvirt.usage(&[]).expect("asking for none"), []);

    // A hundred times more takes no more memory: what libvirt hands out is given back.
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").expect("our own memory");
        let pages: u64 = status
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse().ok())
            .expect("a number");
        pages * 4096
    };
    let ask = |times: usize| (0..times).for_each(|_| drop(usage(&libvirt, spec.uuid)));
    ask(200);
    let before = resident();
    ask(2000);
    let grown = resident().saturating_sub(before);
    assert!(grown < 512 << 10, "{grown} bytes in 2000 calls");

    libvirt.destroy(spec.uuid).expect("ending");
    assert_eq!(usage(&libvirt, spec.uuid), None);
}

#[test]
fn an_interrupt_reaches_the_guest() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    let disk = node.data().join("nmi.raw");
    std::fs::write(&disk, sector(HEARS_NMI)).expect("writing a disk");
    let spec = domain(&node, 2, disk, DiskFormat::Raw);
    libvirt.define(&spec).expect("defining");
    let error = libvirt.inject_nmi(spec.uuid).expect_err("it does not run");
    assert_eq!(error.kind(), Kind::InvalidState);
    libvirt.start(spec.uuid).expect("starting");
    // A guest that still boots has no handler yet.
    eventually("the guest was interrupted", PATIENCE, || {
        libvirt.inject_nmi(spec.uuid).expect("interrupting");
        console(&node, 2).contains('N').then_some(())
    });
    assert!(!libvirt.has_guest_agent(spec.uuid).expect("looking for an agent"));
    let error = libvirt.guest_info(spec.uuid).expect_err("it has no agent");
    assert_eq!(error.kind(), Kind::Busy, "{error}");
}

#[test]
fn a_guest_whose_disk_has_no_space_is_halted_says_which_and_goes_on_when_there_is_room() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    let small = node.data().join("small");
    let boot = node.data().join("writes.raw");
    std::fs::write(&boot, sector(WRITES)).expect("writing a disk");
    let disk = small.join("root.qcow2");
    let said = node.shell(&format!(
        "set -e; mkdir {small}; mount -t tmpfs -o size=1m tmpfs {small}
         qemu-img convert -q -O qcow2 {boot} {disk}; qemu-img resize -q {disk} 64M; echo done",
        small = text(&small),
        boot = text(&boot),
        disk = text(&disk),
    ));
    assert!(said.contains("done"), "{said}");
    let spec = domain(&node, 3, disk, DiskFormat::Qcow2);
    run(&libvirt, &spec);
    let halted = || {
        eventually("the guest is halted", PATIENCE, || {
            let info = libvirt.domain(spec.uuid).expect("reading");
            ((info.state, info.reason) == (DomainState::Paused, StateReason::IoError)).then_some(())
        });
    };
    halted();
    let faults = libvirt.disk_faults(spec.uuid).expect("asking why");
    assert_eq!(faults.len(), 1);
    assert_eq!((faults[0].target.as_str(), faults[0].no_space), ("vda", true));
    let written = || {
        usage(&libvirt, spec.uuid)
            .and_then(|used| used.disks[0].write_bytes)
            .expect("what it wrote")
    };
    let before = written();

    // Somebody makes room, and the guest is let go on: no write was lost to it.
    node.shell(&format!("mount -o remount,size=4m {}", text(&small)));
    libvirt.resume(spec.uuid).expect("letting it go on");
    halted();
    assert!(written() > before + (2 << 20), "{before} and then {}", written());
    libvirt.destroy(spec.uuid).expect("ending");
}

/// The lab's guest, which has QEMU's agent; made by `cargo xtask guest`.
fn linux() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let found = std::fs::read_dir(cache.join("virga/guest"))
        .into_iter()
        .flatten()
        .flatten();
    let newest = found
        .map(|entry| entry.path().join("guest.qcow2"))
        .filter(|image| image.exists())
        .max_by_key(|image| std::fs::metadata(image).and_then(|data| data.modified()).ok());
    if newest.is_none() {
        eprintln!("\n!!! SKIPPED: no guest in the cache: run `cargo xtask guest` first !!!\n");
    }
    newest
}

/// Boots it with this script, and waits until that has run.
fn boot_linux(node: &Node, libvirt: &Libvirt, number: u128, script: &str) -> Option<DomainSpec> {
    let image = linux()?;
    let data = node.data();
    let (root, seed) = (data.join(format!("{number}.qcow2")), data.join(format!("{number}.img")));
    let (user, meta) = (data.join("user-data"), data.join("meta-data"));
    std::fs::write(&user, script).expect("writing user data");
    std::fs::write(&meta, "instance-id: i-1\nlocal-hostname: web\n").expect("writing metadata");
    for command in [
        &["qemu-img", "convert", "-q", "-O", "qcow2", text(&image), text(&root)][..],
        &["mkfs.vfat", "-C", "-n", "CIDATA", text(&seed), "1024"],
        &["mcopy", "-i", text(&seed), text(&user), text(&meta), "::/"],
    ] {
        let output = Command::new(command[0])
            .args(&command[1..])
            .output()
            .expect("qemu-utils, dosfstools and mtools");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut spec = domain(node, number, root, DiskFormat::Qcow2);
    spec.memory_bytes = 128 << 20;
    spec.cpu = CpuMode::Maximum;
    spec.seed = Some(seed);
    run(libvirt, &spec);
    eventually("the script has run", PATIENCE, || {
        console(node, number).contains("GUEST-USER-DATA").then_some(())
    });
    Some(spec)
}

#[test]
fn a_guest_s_agent_says_what_it_is_and_sets_passwords() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    let mut events = libvirt.events(1000);
    let script = "#!/bin/sh\nsleep 1000 &\n";
    let Some(spec) = boot_linux(&node, &libvirt, 4, script) else {
        return;
    };
    eventually("its agent is connected", PATIENCE, || {
        libvirt.has_guest_agent(spec.uuid).expect("looking").then_some(())
    });
    let mut told = false;
    while let Some(event) = events.try_next() {
        let change = Change::AgentConnected;
        told |= event
            == Event::Domain {
                uuid: spec.uuid,
                change,
            };
    }
    assert!(told, "an event tells of the agent");
    let info = eventually("it answers", PATIENCE, || libvirt.guest_info(spec.uuid).ok());
    assert_eq!(info.hostname.as_deref(), Some("web"));
    assert!(info.kernel.is_some(), "{info:?}");
    assert!(
        info.interfaces.iter().any(|interface| interface.name == "lo"),
        "{info:?}"
    );
    println!("{info:?}");
    // busybox has no /etc/shadow here, so the guest refuses: what counts is that no answer has the password.
    let password = Password::new("correct horse".to_owned()).expect("a password");
    let set = libvirt.set_password(spec.uuid, "root", &password);
    assert!(!format!("{set:?}").contains("correct horse"));
    println!("{set:?}");
    libvirt.destroy(spec.uuid).expect("ending");
}

#[test]
fn a_guest_that_is_silent_or_floods_its_channel_keeps_nobody_waiting() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    let port = "/dev/virtio-ports/org.qemu.guest_agent.0";
    let silent = "sleep 1000";
    let flood = "tr '\\0' x </dev/zero";
    // As long as libvirt has not opened its end, reading says that there is no more: it opens when told that ours is open.
    let echo = "while :; do cat <&3; sleep 0.1; done";
    for (number, what) in [(5, silent), (6, flood), (7, echo)] {
        let script = format!(
            "#!/bin/sh\nwhile [ -e /run/qemu-ga.pid ] && kill $(cat /run/qemu-ga.pid) 2>/dev/null; do sleep 0.2; done\n\
             exec 3<>{port}\n({what}) >&3 2>/dev/null &\necho\n"
        );
        let Some(spec) = boot_linux(&node, &libvirt, number, &script) else {
            return;
        };
        eventually("its channel is open", PATIENCE, || {
            libvirt.has_guest_agent(spec.uuid).expect("looking").then_some(())
        });
        let began = Instant::now();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| libvirt.guest_info(spec.uuid));
            // Meanwhile others are served, this domain's too.
            let look = Instant::now();
            assert_eq!(libvirt.domain(spec.uuid).expect("reading").state, DomainState::Running);
            assert!(look.elapsed() < Duration::from_secs(2), "{what}: {:?}", look.elapsed());
            assert!(usage(&libvirt, spec.uuid).is_some());
            let said = asked.join().expect("asking");
            println!("{what}: {said:?} in {:?}", began.elapsed());
            assert!(said.is_err() || said.is_ok_and(|info| info.hostname.is_none()));
        });
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{what}: {:?}",
            began.elapsed()
        );
        let memory = node.shell("grep VmRSS /proc/$(cat /run/libvirt/libvirtd.pid)/status");
        let kib: u64 = memory
            .split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse().ok())
            .expect("a number");
        assert!(kib < 400 << 10, "libvirtd takes {kib} KiB");
        let look = Instant::now();
        libvirt.destroy(spec.uuid).expect("ending");
        assert!(look.elapsed() < Duration::from_secs(10), "{what}: {:?}", look.elapsed());
    }
}
