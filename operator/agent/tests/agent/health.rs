//! What guests use and say, and disks that fail.

use std::time::Duration;

use virga_agent::usage::Periods;
use virga_crds::{Instance, InstanceState, InstanceStatus, Interface, conditions::types};
use virga_hypervisor::{
    DiskUsage, DomainUsage, Fault, GuestFilesystem, GuestInfo, Hypervisor as _, InterfaceUsage, MemoryUsage, Operation,
};

use crate::world::{World, uid};

/// As often as a test has time for.
fn often() -> Periods {
    Periods {
        sample: Duration::from_millis(50),
        tell: Duration::from_millis(100),
        guest: Duration::from_millis(200),
        greeting: Duration::from_millis(50),
    }
}

fn world() -> World {
    let mut world = World::new();
    world.start_with(|options| options.usage = often());
    world
}

fn status(world: &World) -> InstanceStatus {
    world.read::<Instance>("web-1").unwrap().status.unwrap()
}

fn used(seconds: u64) -> DomainUsage {
    DomainUsage {
        cpu_ns: Some(seconds * 1_000_000_000),
        memory: MemoryUsage {
            resident: Some(200 << 20),
            available: Some(250 << 20),
            usable: Some(100 << 20),
            ..MemoryUsage::default()
        },
        disks: vec![DiskUsage {
            target: "vda".into(),
            read_bytes: Some(seconds << 20),
            ..DiskUsage::default()
        }],
        ..DomainUsage::default()
    }
}

#[test]
fn what_a_guest_uses_is_told_once_while_it_stays_so_and_not_when_it_is_off() {
    let world = world();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.host.set_usage(uid(&instance), used(5));
    world.eventually("its usage is told", || status(&world).usage.is_some());
    let usage = status(&world).usage.unwrap();
    world.eventually("its metrics are there", || {
        let text = world.metrics();
        text.contains(r#"virga_instance_cpu_usage_seconds_total{namespace="shop",instance="web-1"} 5"#)
            && text.contains(r#"virga_instance_memory_resident_bytes{namespace="shop",instance="web-1"} 209715200"#)
            && text.contains(
                r#"virga_instance_storage_read_traffic_bytes_total{namespace="shop",instance="web-1",drive="vda"} 5242880"#,
            )
    });
    // It is measured many times, and nothing is written: five minutes have not passed.
    world.host.set_usage(uid(&instance), used(500));
    world.settle();
    assert_eq!(status(&world).usage, Some(usage));

    world.edit("web-1", &serde_json::json!({"powerState": "Stopped"}));
    world.await_ready("web-1");
    assert_eq!(status(&world).usage, None);
    world.eventually("its metrics are gone", || !world.metrics().contains("web-1"));
}

#[test]
fn each_port_is_counted_by_its_name_until_it_is_gone() {
    let world = world();
    world.network_of("back", "10.1.0.0/24");
    let instance = world.instance("web-1", |spec| {
        let back = Interface {
            network: "back".into(),
            ..Interface::default()
        };
        spec.interfaces.push(back);
    });
    world.port(&instance, "10.0.0.5");
    world.port_in(&instance, "back", "10.1.0.6");
    world.await_ready("web-1");
    let interface = |last: &str, received: u64| InterfaceUsage {
        device: format!("vnet-fa163e0000{last}"),
        received_bytes: Some(received),
        sent_dropped: Some(7),
        ..InterfaceUsage::default()
    };
    let usage = |interfaces: Vec<InterfaceUsage>| DomainUsage { interfaces, ..used(5) };
    // The last is nobody's: somebody plugged it in by hand.
    let three = vec![interface("05", 500), interface("06", 600), interface("99", 1)];
    world.host.set_usage(uid(&instance), usage(three.clone()));
    let line = |metric: &str, network: &str, value: u64| {
        format!(
            "virga_port_{metric}_total{{namespace=\"shop\",instance=\"web-1\",port=\"web-1-{network}\",network=\"{network}\"}} {value}\n"
        )
    };
    world.eventually("its ports are counted", || {
        let text = world.metrics();
        text.contains(&line("receive_bytes", "front", 500))
            && text.contains(&line("receive_bytes", "back", 600))
            && text.contains(&line("transmit_packets_dropped", "back", 7))
    });
    assert_eq!(world.metrics().matches("virga_port_receive_bytes_total{").count(), 2);

    // An interface is taken out, and its Port goes.
    world.edit("web-1", &serde_json::json!({"interfaces": [{"network": "front"}]}));
    world.eventually("the other is gone", || !world.metrics().contains("port=\"web-1-back\""));
    world.eventually("this one stays", || {
        world.metrics().contains(&line("receive_bytes", "front", 500))
    });
    world.edit("web-1", &serde_json::json!({"powerState": "Stopped"}));
    world.eventually("nothing is counted of one that is off", || {
        !world.metrics().contains("virga_port_receive_bytes_total{")
    });
}

#[test]
fn what_a_guest_s_agent_says_is_told_while_it_is_connected() {
    let mut world = world();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    let said = GuestInfo {
        os: Some("Debian GNU/Linux 13 (trixie)".into()),
        hostname: Some("web-1".into()),
        filesystems: vec![GuestFilesystem {
            mountpoint: "/".into(),
            kind: "ext4".into(),
            total: Some(1 << 30),
            used: Some(u64::MAX),
        }],
        ..GuestInfo::default()
    };
    world.host.connect_guest_agent(uid(&instance), said);
    world.eventually("the guest's words are told", || status(&world).guest.is_some());
    let told = status(&world).guest.unwrap();
    assert_eq!(told.os.as_deref(), Some("Debian GNU/Linux 13 (trixie)"));
    assert_eq!(told.filesystems[0].used, None, "no disk is so large");
    world.settle();

    // An agent that was restarted does not take back what it has not asked yet.
    world.kill();
    world.start();
    world.settle();
    assert_eq!(status(&world).guest, Some(told));
    world.kill();
    world.start_with(|options| options.usage = often());
    world.host.disconnect_guest_agent(uid(&instance));
    world.eventually("nothing is told of one that is gone", || status(&world).guest.is_none());
}

#[test]
fn a_guest_that_does_not_answer_keeps_nobody_waiting() {
    let world = world();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    let silent = world.host.hold(Operation::GuestInfo);
    world.host.connect_guest_agent(uid(&instance), GuestInfo::default());
    world.eventually("it is asked", || {
        world
            .host
            .take_calls()
            .iter()
            .any(|(operation, _)| *operation == Operation::GuestInfo)
    });
    world.edit("web-1", &serde_json::json!({"powerState": "Stopped"}));
    world.await_ready("web-1");
    world.guest("web-2", "10.0.0.6");
    world.await_ready("web-2");
    drop(silent);
}

#[test]
fn a_disk_that_is_full_is_named_and_its_guest_goes_on_by_itself() {
    let world = world();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    // It stays full for a while: letting the guest go on changes nothing.
    let stays = || {
        let refused = virga_hypervisor::Error::Failed {
            doing: "resuming".into(),
            message: "no space".into(),
        };
        world.host.fail_next(Operation::Resume, 1, &Fault::Error(refused));
    };
    stays();
    world.host.fail_guest_disk(uid(&instance), "vda", true);
    let full = world.await_reason("web-1", types::RUNNING, "DiskFull");
    assert!(
        full.message.contains("no space left for vda (the root disk)"),
        "{}",
        full.message
    );
    assert_eq!(status(&world).state, Some(InstanceState::Paused));
    world.api.clock().jump(k8s_openapi::jiff::SignedDuration::from_secs(31));
    world.nudge("web-1");
    world.await_ready("web-1");
    assert_eq!(world.host.disk_faults(uid(&instance)).unwrap(), []);

    stays();
    world.host.fail_guest_disk(uid(&instance), "vda", false);
    let failed = world.await_reason("web-1", types::RUNNING, "DiskFailed");
    assert!(
        failed.message.contains("read or write vda (the root disk)"),
        "{}",
        failed.message
    );
}
