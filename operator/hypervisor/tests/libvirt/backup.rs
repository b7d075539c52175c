//! Copies of a running guest's disk, by real QEMU: as it was at the moment they began, whatever is written since.

use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;
use virga_hypervisor::testing::node::Node;
use virga_hypervisor::testing::{boot_sector, eventually};
use virga_hypervisor::{
    Backup, Cache, CpuMode, DiskFormat, DiskLayer, DiskSpec, DomainSpec, DomainState, DomainType, Hypervisor, Kind,
    Owner, Topology,
};

use crate::stage::{connect, overlay, qemu_img, run, text};

const PATIENCE: Duration = Duration::from_mins(1);

fn spec(node: &Node, number: u128, root: DiskSpec) -> DomainSpec {
    let owner = Owner {
        namespace: "shop".to_owned(),
        name: format!("web-{number}"),
        uid: Uuid::from_u128(0x0b00_0000_0000_4000_8000_0000_0000_0000 | number << 96),
        generation: 1,
    };
    let mut spec = DomainSpec::new(
        owner,
        format!("virga-backup-{number}"),
        DomainType::Qemu,
        Topology::sockets(1),
        64 << 20,
    );
    spec.cpu = CpuMode::Named("qemu64".to_owned());
    spec.tcg_cache_mib = Some(16);
    spec.disks = vec![root];
    spec.console_log = Some(node.data().join(format!("console-{number}.log")));
    spec
}

/// An overlay over a disk that boots, with a second disk beside it.
fn guest(node: &Node) -> (DomainSpec, PathBuf) {
    let (image, root) = overlay(node, "64M");
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 0x11 16M 16M", text(&root)]);
    let volume = node.data().join("volume.raw");
    std::fs::write(&volume, vec![0; 1 << 20]).expect("writing a volume");
    let disk = DiskSpec {
        backing: vec![DiskLayer {
            path: image,
            format: DiskFormat::Qcow2,
        }],
        boot_order: Some(1),
        cache: Cache::Writeback,
        ..DiskSpec::new("vda", root.clone(), DiskFormat::Qcow2)
    };
    let mut spec = spec(node, 1, disk);
    spec.disks.push(DiskSpec {
        cache: Cache::Writeback,
        ..DiskSpec::new("vdb", volume, DiskFormat::Raw)
    });
    (spec, root)
}

fn greeted(spec: &DomainSpec) {
    let log = spec.console_log.clone().expect("a console log");
    eventually("the greeting is in the console log", PATIENCE, || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.contains(boot_sector::GREETING.trim()).then_some(())
    });
}

/// Writes to the running guest's disk through its QEMU, as the guest would.
fn write_live(node: &Node, domain: &str, command: &str) {
    let nodes = node.shell(&format!(
        "virsh qemu-monitor-command {domain} '{{\"execute\":\"query-block\"}}'"
    ));
    let name = nodes
        .split("\"qdev\":\"")
        .filter_map(|part| part.split('"').next())
        .find(|name| name.contains("virtio-disk0"))
        .unwrap_or_else(|| panic!("no disk in {nodes}"));
    let said = node.shell(&format!(
        "virsh qemu-monitor-command --hmp {domain} 'qemu-io -d {name} \"{command}\"' 2>&1"
    ));
    assert!(!said.contains("rror"), "{said}");
}

#[test]
fn a_copy_is_of_the_moment_in_which_it_began_and_boots_by_itself() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    let (spec, root) = guest(&node);
    let target = node.data().join("copy.qcow2");
    libvirt.define(&spec).expect("defining");
    assert_eq!(
        libvirt.begin_backup(spec.uuid, &root, &target).unwrap_err().kind(),
        Kind::InvalidState,
        "a guest that is off is copied otherwise"
    );
    libvirt.start(spec.uuid).expect("starting");
    greeted(&spec);
    assert_eq!(libvirt.backup(spec.uuid).expect("asking"), Backup::None);
    libvirt.abort_backup(spec.uuid).expect("nothing to end is fine");
    assert_eq!(
        libvirt
            .begin_backup(spec.uuid, Path::new("/etc/passwd"), &target)
            .unwrap_err()
            .kind(),
        Kind::Invalid
    );

    write_live(&node, &spec.name, "write -P 0x22 8M 1M");
    libvirt.begin_backup(spec.uuid, &root, &target).expect("beginning");
    // Over what was there, and behind it.
    write_live(&node, &spec.name, "write -P 0x33 8M 1M");
    write_live(&node, &spec.name, "write -P 0x33 40M 1M");
    let ended = eventually("the copy ends", PATIENCE, || {
        match libvirt.backup(spec.uuid).expect("asking") {
            Backup::Running { .. } => None,
            ended => Some(ended),
        }
    });
    assert_eq!(ended, Backup::Finished);
    assert_eq!(libvirt.backup(spec.uuid).expect("asking again"), Backup::Finished);
    assert_eq!(libvirt.domain(spec.uuid).expect("reading").state, DomainState::Running);

    let info = qemu_img(&["info", text(&target)]);
    assert!(
        info.contains("64 MiB (67108864 bytes)") && !info.contains("backing file"),
        "{info}"
    );
    for pattern in ["0x22 8M 1M", "0x11 16M 16M", "0 40M 1M"] {
        let said = run(
            "qemu-io",
            &["-r", "-f", "qcow2", "-c", &format!("read -P {pattern}"), text(&target)],
        );
        assert!(!said.contains("failed"), "{pattern}: {said}");
    }
    // The guest's own disk is as it was: one overlay over its image.
    let chain = qemu_img(&["info", "-U", "--backing-chain", text(&root)]);
    assert_eq!(chain.matches("backing file: ").count(), 1, "{chain}");
    libvirt.destroy(spec.uuid).expect("destroying");

    let copy = spec_of_copy(&node, target);
    libvirt.define(&copy).expect("defining the copy");
    libvirt.start(copy.uuid).expect("starting the copy");
    greeted(&copy);
    for uuid in [spec.uuid, copy.uuid] {
        libvirt.destroy(uuid).expect("destroying");
        libvirt.undefine(uuid).expect("undefining");
    }
}

fn spec_of_copy(node: &Node, target: PathBuf) -> DomainSpec {
    let disk = DiskSpec {
        boot_order: Some(1),
        cache: Cache::Writeback,
        ..DiskSpec::new("vda", target, DiskFormat::Qcow2)
    };
    spec(node, 2, disk)
}

#[test]
fn a_copy_that_is_given_up_leaves_the_guest_as_it_is_and_another_can_begin() {
    let Some(node) = Node::start() else { return };
    let libvirt = connect(&node);
    let (spec, root) = guest(&node);
    libvirt.define(&spec).expect("defining");
    libvirt.start(spec.uuid).expect("starting");
    greeted(&spec);
    // A guest without an agent: the answer comes, and says why.
    for (refused, kind) in [
        (libvirt.freeze(spec.uuid), Kind::InvalidState),
        (libvirt.thaw(spec.uuid), Kind::Busy),
    ] {
        let error = refused.unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains("agent"), "{error}");
    }
    let target = node.data().join("given-up.qcow2");
    libvirt.begin_backup(spec.uuid, &root, &target).expect("beginning");
    libvirt.abort_backup(spec.uuid).expect("giving up");
    eventually("it is over", PATIENCE, || {
        (!matches!(libvirt.backup(spec.uuid).expect("asking"), Backup::Running { .. })).then_some(())
    });
    let target = node.data().join("next.qcow2");
    libvirt
        .begin_backup(spec.uuid, &root, &target)
        .expect("beginning again");
    // The guest's end is the copy's.
    libvirt.destroy(spec.uuid).expect("destroying");
    let ended = libvirt.backup(spec.uuid).expect("asking");
    assert!(!matches!(ended, Backup::Running { .. }), "{ended:?}");
    libvirt.thaw(spec.uuid).expect("what is off needs no thawing");
    libvirt.undefine(spec.uuid).expect("undefining");
}
