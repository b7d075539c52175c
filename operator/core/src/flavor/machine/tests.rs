use super::*;

fn flavor(pairs: &[(&str, &str)]) -> Asked {
    let mut asked = Asked::default();
    for (key, value) in pairs {
        asked.read_spec(key, value).expect(key).expect(key);
    }
    asked
}

fn image(pairs: &[(&str, &str)]) -> Asked {
    let mut asked = Asked::default();
    for (name, value) in pairs {
        asked.read_property(name, value).expect(name).expect(name);
    }
    asked
}

fn of(specs: &[(&str, &str)], properties: &[(&str, &str)]) -> Result<Machine, String> {
    machine(2, &flavor(specs), Some(&image(properties))).map_err(|problems| problems.to_string())
}

#[test]
fn without_wishes_it_is_our_own_machine() {
    let machine = of(&[], &[]).unwrap();
    assert_eq!(
        (machine.machine_type, machine.firmware),
        (MachineType::Q35, Firmware::Bios)
    );
    assert_eq!((machine.cpus.sockets, machine.serial_ports), (2, 1));
    assert!(machine.rng && machine.guest_agent && !machine.hide_hypervisor);
    assert_eq!((machine.watchdog, machine.tpm), (Watchdog::Disabled, None));
    assert!(required(&Asked::default(), None).is_empty(), "every host has it");
}

#[test]
fn what_an_image_says_is_read_by_its_names() {
    let machine = of(
        &[("hw_video:ram_max_mb", "64")],
        &[
            ("hw_machine_type", "pc"),
            ("hw_firmware_type", "uefi"),
            ("hw_disk_bus", "ide"),
            ("hw_cdrom_bus", "sata"),
            ("hw_scsi_model", "virtio-scsi"),
            ("hw_vif_model", "e1000e"),
            ("hw_video_model", "vmvga"),
            ("hw_video_ram", "32"),
            ("hw_input_bus", "usb"),
            ("hw_pointer_model", "usbtablet"),
            ("hw_rng_model", "virtio"),
            ("hw_qemu_guest_agent", "no"),
            ("hw_time_hpet", "Yes"),
            ("os_type", "Windows"),
            ("os_require_quiesce", "yes"),
            ("img_hide_hypervisor_id", "true"),
            ("hw_watchdog_action", "pause"),
        ],
    )
    .unwrap();
    assert_eq!(
        (machine.machine_type, machine.firmware),
        (MachineType::Pc, Firmware::Uefi)
    );
    assert_eq!(
        (machine.disk_bus, machine.cdrom_bus),
        (Some(DiskBus::Ide), Some(CdromBus::Sata))
    );
    assert_eq!(
        (machine.vif_model, machine.video),
        (Some(VifModel::E1000e), Some(VideoModel::Vmvga))
    );
    assert_eq!(
        (machine.video_ram_mib, machine.input_bus),
        (Some(32), Some(InputBus::Usb))
    );
    assert!(!machine.guest_agent && machine.hpet && machine.windows && machine.hide_hypervisor && machine.usb_tablet);
    assert_eq!(machine.watchdog, Watchdog::Pause);
}

#[test]
fn what_flavor_and_image_both_say_must_be_the_same() {
    for (name, one, other) in [
        ("pmu", "true", "false"),
        ("vif_multiqueue_enabled", "true", "false"),
        ("virtio_packed_ring", "true", "false"),
        ("tpm_version", "2.0", "1.2"),
        ("viommu_model", "virtio", "intel"),
        ("usb_model", "qemu-xhci", "nec-xhci"),
    ] {
        let (spec, property) = (format!("hw:{name}"), format!("hw_{name}"));
        assert!(of(&[(&spec, one)], &[(&property, one)]).is_ok(), "{name}");
        let said = of(&[(&spec, one)], &[(&property, other)]).unwrap_err();
        let words = format!("spec.properties[{property}]: is not what the Flavor's {spec} says");
        assert!(said.contains(&words), "{said}");
    }
    let said = of(
        &[("hide_hypervisor_id", "true")],
        &[("img_hide_hypervisor_id", "false")],
    )
    .unwrap_err();
    assert!(
        said.contains("spec.properties[img_hide_hypervisor_id]: is not what"),
        "{said}"
    );
    let tpm = [("hw:tpm_version", "2.0"), ("hw:tpm_model", "tpm-crb")];
    let said = of(&tpm, &[("hw_tpm_model", "tpm-tis")]).unwrap_err();
    assert!(said.contains("spec.properties[hw_tpm_model]"), "{said}");
}

#[test]
fn who_stands_for_whom_is_as_in_nova() {
    let watchdog = of(
        &[("hw:watchdog_action", "reset")],
        &[("hw_watchdog_action", "disabled")],
    )
    .unwrap();
    assert_eq!(watchdog.watchdog, Watchdog::Disabled, "the image for the Flavor");
    let menu = of(&[("hw:boot_menu", "false")], &[("hw_boot_menu", "true")]).unwrap();
    assert!(!menu.boot_menu, "the Flavor for the image");
    let ports = of(&[("hw:serial_port_count", "3")], &[("hw_serial_port_count", "2")]).unwrap();
    assert_eq!(ports.serial_ports, 2, "the image within the Flavor");
    let said = of(&[("hw:serial_port_count", "1")], &[("hw_serial_port_count", "2")]).unwrap_err();
    assert!(
        said.contains("is more than the Flavor's hw:serial_port_count, 1"),
        "{said}"
    );
    let said = of(&[("hw_video:ram_max_mb", "16")], &[("hw_video_ram", "32")]).unwrap_err();
    assert!(
        said.contains("is more than the Flavor's hw_video:ram_max_mb, 16"),
        "{said}"
    );
    let said = of(&[], &[("hw_video_ram", "32")]).unwrap_err();
    assert!(said.contains("only where the Flavor has hw_video:ram_max_mb"), "{said}");
}

#[test]
fn a_flavor_alone_says_what_it_costs_the_host() {
    let machine = of(
        &[
            ("hw:locked_memory", "true"),
            ("hw_rng:rate_bytes", "1024"),
            ("quota:cpu_shares", "512"),
        ],
        &[],
    )
    .unwrap();
    let rate = RngRate {
        bytes: 1024,
        period_ms: 1000,
    };
    assert!(machine.locked_memory && machine.rng_rate == Some(rate));
    assert_eq!(machine.quota.cpu_shares, Some(512));
    assert!(!of(&[("hw_rng:allowed", "False")], &[]).unwrap().rng);
    for name in ["hw_locked_memory", "quota:cpu_shares", "hw_rng_allowed", "hw:pmu"] {
        assert!(Asked::default().read_property(name, "1").is_none(), "{name}");
    }
    let said = of(&[("hw_rng:rate_period", "5")], &[]).unwrap_err();
    assert!(
        said.contains("[hw_rng:rate_period]: is the period of hw_rng:rate_bytes"),
        "{said}"
    );
}

#[test]
fn secure_boot_needs_uefi_and_q35_and_is_told_where_they_are_not() {
    let required = [("os:secure_boot", "required")];
    let uefi = ("hw_firmware_type", "uefi");
    assert_eq!(of(&required, &[uefi]).unwrap().secure_boot, SecureBoot::Required);
    assert!(machine(2, &flavor(&required), None).is_ok(), "the image may say uefi");
    let said = of(&required, &[]).unwrap_err();
    assert!(
        said.contains("[hw_firmware_type]: must be uefi for the Flavor's os:secure_boot"),
        "{said}"
    );
    let said = of(&required, &[uefi, ("hw_machine_type", "pc")]).unwrap_err();
    assert!(said.contains("[hw_machine_type]: must be q35"), "{said}");
    let said = of(&[], &[("os_secure_boot", "required")]).unwrap_err();
    assert_eq!(
        said,
        "spec.properties[os_secure_boot]: needs UEFI: set hw_firmware_type to uefi as well"
    );
    let optional = ("os_secure_boot", "optional");
    assert_eq!(of(&[], &[optional]).unwrap().secure_boot, SecureBoot::Disabled);
    assert_eq!(of(&[], &[optional, uefi]).unwrap().secure_boot, SecureBoot::Optional);
    let said = of(
        &[("os:secure_boot", "disabled")],
        &[uefi, ("os_secure_boot", "required")],
    )
    .unwrap_err();
    assert!(said.contains("is not what the Flavor's os:secure_boot says"), "{said}");
    assert!(
        Asked::default()
            .read_spec("os:secure_boot", "optional")
            .unwrap()
            .is_err()
    );
}

#[test]
fn a_tpm_has_a_version_and_a_model_of_it() {
    let tpm = |specs: &[(&str, &str)], properties: &[(&str, &str)]| of(specs, properties).map(|machine| machine.tpm);
    let tis = Tpm {
        version: TpmVersion::V1,
        model: TpmModel::Tis,
    };
    assert_eq!(tpm(&[("hw:tpm_version", "1.2")], &[]), Ok(Some(tis)));
    let crb = Tpm {
        version: TpmVersion::V2,
        model: TpmModel::Crb,
    };
    assert_eq!(
        tpm(&[("hw:tpm_version", "2.0")], &[("hw_tpm_model", "tpm-crb")]),
        Ok(Some(crb))
    );
    let said = tpm(&[("hw:tpm_model", "tpm-tis")], &[]).unwrap_err();
    assert!(
        said.starts_with("spec.extraSpecs[hw:tpm_version]: is missing"),
        "{said}"
    );
    let said = tpm(&[], &[("hw_tpm_version", "1.2"), ("hw_tpm_model", "tpm-crb")]).unwrap_err();
    assert!(
        said.starts_with("spec.properties[hw_tpm_model]: is of version 2.0 alone"),
        "{said}"
    );
}

#[test]
fn what_needs_another_machine_is_told() {
    let said = of(&[], &[("hw_disk_bus", "ide"), ("hw_cdrom_bus", "ide")]).unwrap_err();
    assert!(said.contains("[hw_disk_bus]: is of the machine pc alone"), "{said}");
    assert!(said.contains("[hw_cdrom_bus]: is of the machine pc alone"), "{said}");
    let said = of(&[("hw:viommu_model", "intel")], &[("hw_machine_type", "pc")]).unwrap_err();
    assert!(said.contains("[hw_machine_type]: has no VT-d"), "{said}");
    let said = of(&[("hw:vif_multiqueue_enabled", "true")], &[("hw_vif_model", "e1000")]).unwrap_err();
    assert!(said.contains("[hw_vif_model]: has no queues"), "{said}");
    let both = [("hw_vif_multiqueue_enabled", "true"), ("hw_vif_model", "e1000")];
    assert!(
        of(&[], &both)
            .unwrap_err()
            .contains("[hw_vif_multiqueue_enabled]: is for virtio alone")
    );
}

#[test]
fn what_is_asked_for_by_name_must_be_on_the_host() {
    let specs = flavor(&[
        ("hw:tpm_version", "2.0"),
        ("hw:tpm_model", "tpm-crb"),
        ("os:secure_boot", "required"),
        ("hw:virtio_packed_ring", "true"),
        ("hw:viommu_model", "auto"),
    ]);
    let properties = image(&[
        ("hw_firmware_type", "uefi"),
        ("hw_disk_bus", "scsi"),
        ("hw_cdrom_bus", "sata"),
        ("hw_vif_model", "e1000e"),
        ("hw_video_model", "cirrus"),
        ("hw_usb_model", "nec-xhci"),
    ]);
    let needed = required(&specs, Some(&properties));
    let named: Vec<&str> = needed.iter().map(String::as_str).collect();
    assert_eq!(
        named,
        [
            "COMPUTE_FIRMWARE_UEFI",
            "COMPUTE_GRAPHICS_MODEL_CIRRUS",
            "COMPUTE_NET_VIF_MODEL_E1000E",
            "COMPUTE_NET_VIRTIO_PACKED",
            "COMPUTE_SECURITY_TPM_2_0",
            "COMPUTE_SECURITY_TPM_CRB",
            "COMPUTE_SECURITY_UEFI_SECURE_BOOT",
            "COMPUTE_STORAGE_BUS_SATA",
            "COMPUTE_STORAGE_BUS_SCSI",
            "COMPUTE_USB_MODEL_NEC_XHCI",
            "COMPUTE_VIOMMU_MODEL_AUTO",
        ]
    );
    let words = |words: &[&str]| -> Vec<String> { words.iter().map(ToString::to_string).collect() };
    let (buses, videos) = (
        words(&["fdc", "scsi", "sata", "virtio"]),
        words(&["vga", "cirrus", "ramfb"]),
    );
    let (models, versions) = (words(&["tpm-tis", "tpm-crb"]), words(&["2.0"]));
    let facts = DeviceFacts {
        qemu: true,
        uefi: true,
        secure_boot: true,
        disk_buses: &buses,
        video_models: &videos,
        tpm_models: &models,
        tpm_versions: &versions,
    };
    let found = device_traits(facts);
    assert!(needed.is_subset(&found), "{found:?}");
    assert!(!found.contains("COMPUTE_STORAGE_BUS_FDC") && !found.contains("COMPUTE_SECURITY_TPM_1_2"));
    let known: BTreeSet<String> = known_device_traits().map(str::to_owned).collect();
    assert!(found.is_subset(&known));
    assert!(
        device_traits(DeviceFacts::default()).is_empty(),
        "libvirt's test driver has none"
    );
}
