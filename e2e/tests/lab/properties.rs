//! Does a guest see the machine that its Flavor and its Image ask for?

use kube::api::ListParams;
use kube::{Api, ResourceExt};
use virga_crds::{FlavorSpec, Hypervisor, Image, Instance, UserData};
use virga_e2e::objects::{GUEST as FILE, image, instance, plugged, tiny};
use virga_e2e::{BOUND, Installation, condition, is_ready, on_node, with_temp_namespace};

use crate::{GUEST, await_up, domain_of, given_a_place_for_guests, host, nothing_new_is_left, remains};

/// Prints what the guest sees of its machine.
const SCRIPT: &str = "#!/bin/sh
echo \"SEES threads=$(cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list)\"
echo \"SEES disks=$(ls /sys/class/block | tr '\\n' ',')\"
echo \"SEES pci=$(cat /sys/bus/pci/devices/*/device | tr '\\n' ',')\"
echo \"SEES acpi=$(ls /sys/bus/acpi/devices | tr '\\n' ',')\"
echo \"SEES firmware=$([ -d /sys/firmware/efi ] && echo uefi || echo bios)\"
";

/// What libvirt is asked for.
const ASKED: [&str; 12] = [
    "<topology sockets='1' dies='1' clusters='1' cores='1' threads='2'/>",
    "<target dev='vda' bus='scsi'/>",
    "<target dev='sdf' bus='sata'/>",
    "<total_iops_sec>2000</total_iops_sec>",
    "<total_iops_sec_max>4000</total_iops_sec_max>",
    "<driver queues='2'/>",
    "<watchdog model='i6300esb' action='reset'>",
    "<tpm model='tpm-crb'>",
    "<rate bytes='65536' period='1000'/>",
    "type='cirrus'",
    "<target type='isa-serial' port='1'>",
    "<bootmenu enable='yes'",
];

fn specs(pairs: &[(&str, &str)]) -> FlavorSpec {
    let pairs = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    FlavorSpec {
        vcpus: 2,
        extra_specs: pairs.collect(),
        ..tiny()
    }
}

#[tokio::test]
async fn a_guest_sees_the_machine_that_is_asked_for() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("reads a console on its node") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        given_a_place_for_guests(&t, "10.43.0.0/24").await;
        let flavor = specs(&[
            ("hw:cpu_max_sockets", "1"),
            ("hw:cpu_threads", "2"),
            ("hw:tpm_version", "2.0"),
            ("hw:tpm_model", "tpm-crb"),
            ("hw:vif_multiqueue_enabled", "true"),
            ("hw:watchdog_action", "reset"),
            ("hw:serial_port_count", "2"),
            ("hw:boot_menu", "true"),
            ("hw_rng:rate_bytes", "65536"),
            ("quota:disk_total_iops_sec", "2000"),
            ("quota:disk_total_iops_sec_max", "4000"),
        ]);
        let flavor = t.flavor("equipped", flavor).await;
        let mut odd = image("odd", FILE);
        let properties = [
            ("hw_firmware_type", "uefi"),
            ("hw_disk_bus", "scsi"),
            ("hw_cdrom_bus", "sata"),
            ("hw_video_model", "cirrus"),
        ];
        odd.spec.properties = properties.map(|(name, value)| (name.into(), value.into())).into();
        t.create(odd).await;
        t.await_within::<Image>(GUEST, "odd", "Ready", is_ready).await;
        let before = remains(lab);
        let mut equipped = plugged(instance("equipped", &flavor), "net");
        if let Some(image) = &mut equipped.spec.image {
            image.name = "odd".into();
        }
        equipped.spec.user_data = Some(UserData {
            inline: Some(SCRIPT.into()),
            secret_ref: None,
        });
        t.create(equipped).await;
        let equipped = t.await_within::<Instance>(GUEST, "equipped", "Ready", is_ready).await;
        let (node, uid) = (host(lab, &equipped), equipped.uid().unwrap());
        let xml = on_node::run(&node, &["virsh", "dumpxml", &domain_of(&equipped)]);
        for asked in ASKED {
            assert!(xml.contains(asked), "{asked}: {xml}");
        }
        await_up(&node, &equipped, 1).await;
        // It runs its user data before it is up.
        let console = on_node::console(&node, &uid);
        let sees = |what: &str| {
            let mark = format!("SEES {what}=");
            let seen = on_node::marked(&console, &mark).next();
            seen.unwrap_or_else(|| panic!("{what}: {console}")).to_owned()
        };
        assert!(console.contains("GUEST-SEED device=/dev/sr0"), "{console}");
        assert!(["0-1", "0,1"].contains(&sees("threads").as_str()), "{console}");
        assert!(
            sees("disks").contains("sda") && !sees("disks").contains("vda"),
            "{console}"
        );
        // i6300esb, Cirrus GD 5446 and virtio-scsi.
        for device in ["0x25ab", "0x00b8", "0x1048"] {
            assert!(sees("pci").contains(device), "{device}: {console}");
        }
        assert!(sees("acpi").contains("MSFT0101"), "a TPM 2.0: {console}");
        assert_eq!(sees("firmware"), "uefi");

        let tpm = format!("/var/lib/libvirt/swtpm/{uid}");
        on_node::run(&node, &["test", "-d", &tpm]);
        t.delete::<Instance>(GUEST, "equipped").await;
        on_node::run(&node, &["test", "!", "-e", &tpm]);
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}

#[tokio::test]
async fn what_no_host_has_is_waited_for_with_its_reason() {
    let (installation, _turn) = Installation::turn().await;
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.44.0.0/24").await;
        let hosts: Api<Hypervisor> = Api::all(t.client.clone());
        let hosts = hosts.list(&ListParams::default()).await.unwrap();
        let trait_name = "COMPUTE_GRAPHICS_MODEL_QXL";
        let has = |host: &Hypervisor| {
            let status = host.status.as_ref();
            status.is_some_and(|status| status.traits.iter().any(|name| name == trait_name))
        };
        if hosts.iter().any(has) {
            eprintln!("\n!!! SKIPPED: these hosts have SPICE's graphics card !!!\n");
            return;
        }
        let mut spice = image("spice", FILE);
        spice.spec.properties = [("hw_video_model".into(), "qxl".into())].into();
        t.create(spice).await;
        t.await_within::<Image>(GUEST, "spice", "Ready", is_ready).await;
        let mut waits = instance("waits", &flavor);
        if let Some(image) = &mut waits.spec.image {
            image.name = "spice".into();
        }
        t.create(waits).await;
        let waits = t
            .await_within::<Instance>(BOUND, "waits", "NoValidHost", |found| {
                condition(found, "Scheduled").is_some_and(|scheduled| scheduled.reason == "NoValidHost")
            })
            .await;
        let message = condition(&waits, "Scheduled").unwrap().message.clone();
        assert!(message.contains("TraitsFilter"), "{message}");
        t.delete::<Instance>(BOUND, "waits").await;
    })
    .await;
}
