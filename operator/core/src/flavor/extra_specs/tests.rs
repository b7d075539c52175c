use super::*;

fn specs(pairs: &[(&str, &str)]) -> FlavorSpec {
    FlavorSpec {
        extra_specs: pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..FlavorSpec::default()
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// The one problem that this pair is.
fn problem(key: &str, value: &str) -> String {
    let problems = extra_specs(&specs(&[(key, value)])).unwrap_err();
    assert_eq!(problems.iter().count(), 1, "{problems}");
    problems.to_string()
}

#[test]
fn all_that_scheduling_reads_is_found() {
    let read = extra_specs(&specs(&[
        ("resources:VCPU", "2"),
        ("resources:DISK_GB", "0"),
        ("resources:CUSTOM_LICENCE", "1"),
        ("resources_A:CUSTOM_LICENCE", "2"),
        ("resources1:CUSTOM_FPGA", "1"),
        ("trait:HW_CPU_X86_AVX2", "required"),
        ("trait1:CUSTOM_SSD", "required"),
        ("trait:CUSTOM_OLD", "forbidden"),
        ("trait:in:CUSTOM_NVME,CUSTOM_SSD", "required"),
        ("group_policy", "none"),
        ("aggregate_instance_extra_specs:disk", "<or> ssd <or> nvme"),
        ("capabilities:cpu_info:features", "<in> avx2"),
    ]))
    .unwrap();
    let resources = [("CUSTOM_FPGA", 1), ("CUSTOM_LICENCE", 3), ("DISK_GB", 0), ("VCPU", 2)];
    let resources: BTreeMap<String, u32> = resources.map(|(class, amount)| (class.to_owned(), amount)).into();
    assert_eq!(read.resources, resources);
    assert_eq!(read.required, names(&["CUSTOM_SSD", "HW_CPU_X86_AVX2"]));
    assert_eq!(read.any_of, BTreeSet::from([names(&["CUSTOM_NVME", "CUSTOM_SSD"])]));
    assert_eq!(read.forbidden, names(&["CUSTOM_OLD"]));
    assert_eq!(read.aggregate["disk"], "<or> ssd <or> nvme");
    assert_eq!(read.capabilities["cpu_info:features"], "<in> avx2");
    assert_eq!(extra_specs(&specs(&[])), Ok(ExtraSpecs::default()));
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_its_field_and_the_cure() {
    for (key, value, words) in [
        ("resources:VCPU", "two", "\"two\" is no amount: write a whole number"),
        ("resources:VCPU", "-1", "no amount"),
        ("resources:VCPU", "1.5", "no amount"),
        ("resources:CUSTOM_FPGA", "2147483648", "no amount"),
        ("trait:CUSTOM_SSD", "yes", "write required or forbidden"),
        ("trait:CUSTOM_SSD", "Required", "write required or forbidden"),
        ("trait:in:CUSTOM_A,CUSTOM_B", "forbidden", "can be required only"),
        ("group_policy", "any", "write none or isolate"),
        ("aggregate_instance_extra_specs:cores", ">= many", "compares numbers"),
        ("capabilities:vcpus_total", "", "a value is needed"),
    ] {
        let said = problem(key, value);
        assert!(said.starts_with(&format!("spec.extraSpecs[{key}]: ")), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn what_nova_knows_and_we_do_not_do_says_why() {
    for (key, why) in [
        ("hw:cpu_realtime", "the host's scheduler"),
        ("hw:sound_model", "no console carries sound"),
        ("quota:cpu_limit", "it is VMware's"),
        ("accel:device_profile", "pci_passthrough:alias"),
    ] {
        let said = problem(key, "whatever");
        let whole = said.contains("is known to Nova, but not carried out here: ") && said.ends_with("; leave it out");
        assert!(whole && said.contains(why), "{said}");
    }
    assert!(problem("resources:VGPU", "1").contains("no inventory of this class yet"));
}

#[test]
fn every_key_of_the_machine_is_read() {
    let read = known::all().filter(|key| known::refusal(key).is_none());
    for key in read.filter(|key| !["resources", "group_policy"].iter().any(|other| key.starts_with(other))) {
        let said = extra_specs(&specs(&[(key, "\u{1}")])).unwrap_err().to_string();
        assert!(
            !said.contains("is not known: a key") && !said.contains("to Nova under"),
            "{said}"
        );
        assert!(
            !said.contains("did you mean hw:") && !said.contains("did you mean quota:"),
            "{said}"
        );
    }
}

#[test]
fn what_a_flavor_says_of_the_machine_is_checked_with_it() {
    let flavor = |pairs: &[(&str, &str)]| {
        extra_specs(&FlavorSpec {
            vcpus: 4,
            memory: Bytes::gib(1),
            ..specs(pairs)
        })
    };
    let read = flavor(&[
        ("hw:cpu_max_sockets", "1"),
        ("hw:cpu_threads", "2"),
        ("hw:watchdog_action", "reset"),
    ])
    .unwrap();
    let machine = read.machine(4, None).unwrap();
    assert_eq!(
        (machine.cpus.sockets, machine.cpus.cores, machine.cpus.threads),
        (1, 2, 2)
    );
    let said = flavor(&[("hw:locked_memory", "true")]).unwrap_err().to_string();
    assert!(said.contains("needs hw:mem_page_size"), "{said}");
    assert!(flavor(&[("hw:locked_memory", "true"), ("hw:mem_page_size", "small")]).is_ok());
    let said = flavor(&[("quota:vif_inbound_peak", "1"), ("hw:watchdog_action", "bark")])
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("write disabled or none or pause or poweroff or reset"),
        "{said}"
    );
    assert!(
        said.contains("write quota:vif_inbound_average as well"),
        "all at once: {said}"
    );
}

#[test]
fn an_unknown_key_is_told_the_nearest_known_one() {
    for (key, words) in [
        ("hw:cpu_polcy", "did you mean hw:cpu_policy?"),
        ("hw:numa_cpus.x", "did you mean hw:numa_cpus.0?"),
        ("quota:disk_total_iops", "did you mean quota:disk_total_iops_sec?"),
        ("hw:watchdog_acton", "did you mean hw:watchdog_action?"),
        ("resource:VCPU", "did you mean resources:VCPU?"),
        ("resources:VCPUS", "did you mean VCPU?"),
        ("resources:custom_fpga", "CUSTOM_"),
        ("traits:CUSTOM_SSD", "did you mean trait:CUSTOM_SSD?"),
        ("trait:HW_CPU_X86_AVX22", "did you mean HW_CPU_X86_AVX2?"),
        ("trait:ssd", "CUSTOM_"),
        ("trait:in:CUSTOM_A,", "CUSTOM_"),
        ("grouppolicy", "did you mean group_policy?"),
        (
            "agregate_instance_extra_specs:ssd",
            "did you mean aggregate_instance_extra_specs:ssd?",
        ),
        ("capability:vcpus", "did you mean capabilities:vcpus?"),
        ("zzz:zzz", "scopes are resources, trait"),
        ("ssd", "aggregate_instance_extra_specs:ssd or capabilities:ssd"),
        ("capabilities:", "a name must follow capabilities:"),
        ("capabilities:cpu_info:", "a name must follow capabilities:"),
        ("resources:", "CUSTOM_"),
        ("resources a:VCPU", "no suffix of a group"),
    ] {
        let said = problem(key, "1");
        assert!(said.starts_with(&format!("spec.extraSpecs[{key}]: ")), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn contradictions_are_told() {
    let both = extra_specs(&specs(&[
        ("trait:CUSTOM_A", "required"),
        ("trait1:CUSTOM_A", "forbidden"),
    ]));
    assert!(both.unwrap_err().to_string().contains("is required and forbidden"));
    let none = extra_specs(&specs(&[
        ("trait:in:CUSTOM_A,CUSTOM_B", "required"),
        ("trait:CUSTOM_A", "forbidden"),
        ("trait:CUSTOM_B", "forbidden"),
    ]));
    assert!(
        none.unwrap_err()
            .to_string()
            .contains("all of these traits are forbidden")
    );
    let isolated = [
        ("resources1:CUSTOM_A", "1"),
        ("resources2:CUSTOM_A", "1"),
        ("group_policy", "isolate"),
    ];
    assert!(
        extra_specs(&specs(&isolated))
            .unwrap_err()
            .to_string()
            .contains("one provider")
    );
    assert!(
        extra_specs(&specs(&isolated[1..])).is_ok(),
        "one group has nothing to be isolated from"
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let problems = extra_specs(&specs(&[("hw:cpu_policy", "own"), ("trait:x", "required"), ("y", "1")]));
    let fields: Vec<String> = problems.unwrap_err().iter().map(|one| one.field.clone()).collect();
    assert_eq!(
        fields,
        [
            "spec.extraSpecs[hw:cpu_policy]",
            "spec.extraSpecs[trait:x]",
            "spec.extraSpecs[y]"
        ]
    );
}

#[test]
fn what_is_said_of_a_class_stands_for_the_flavor_s_own_amount() {
    let own = Resources {
        vcpus: 4,
        memory: Bytes::gib(2),
        disk: Bytes::gib(10),
    };
    let read = |pairs: &[(&str, &str)]| extra_specs(&specs(pairs)).unwrap();
    assert_eq!(
        read(&[("resources:CUSTOM_A", "3")]).counted(own, &Shape::default()),
        own
    );
    let all = read(&[
        ("resources:VCPU", "0"),
        ("resources:MEMORY_MB", "512"),
        ("resources:DISK_GB", "1"),
        ("resources:CUSTOM_A", "3"),
        ("resources:CUSTOM_B", "0"),
    ]);
    let counted = Resources {
        vcpus: 0,
        memory: Bytes::mib(512),
        disk: Bytes::gib(1),
    };
    assert_eq!(all.counted(own, &Shape::default()), counted);
    assert_eq!(
        all.units(&Shape::default()),
        BTreeMap::from([("CUSTOM_A".to_owned(), 3)])
    );
}

#[test]
fn what_a_guest_asks_of_cells_and_devices_is_read() {
    let spec = FlavorSpec {
        vcpus: 4,
        memory: Bytes::gib(4),
        ..specs(&[
            ("hw:cpu_policy", "dedicated"),
            ("hw:cpu_thread_policy", "isolate"),
            ("hw:numa_nodes", "2"),
            ("hw:mem_page_size", "2MB"),
            ("pci_passthrough:alias", "a100:1"),
        ])
    };
    let read = extra_specs(&spec).unwrap();
    let size = Size {
        vcpus: 4,
        memory_bytes: 4 << 30,
    };
    let shape = shape(size, &read.hardware, &Hardware::default()).unwrap();
    assert_eq!((shape.vcpus(4), shape.pcpus()), (0, 4));
    assert_eq!(read.units(&shape), BTreeMap::from([(PCPU.to_owned(), 4)]));
    let own = Resources {
        vcpus: 4,
        ..Resources::default()
    };
    assert_eq!(read.counted(own, &shape).vcpus, 0);
    assert_eq!(shape.devices[0].alias, "a100");
}

#[test]
fn placement_s_own_word_for_dedicated_cpus_means_the_same() {
    let flavor = |pairs: &[(&str, &str)]| {
        extra_specs(&FlavorSpec {
            vcpus: 2,
            memory: Bytes::gib(1),
            ..specs(pairs)
        })
    };
    let native = flavor(&[("resources:PCPU", "2")]).unwrap();
    assert_eq!(native.hardware.cpu_policy, Some(CpuPolicy::Dedicated));
    assert!(native.resources.is_empty());
    let said = flavor(&[("resources:PCPU", "1")]).unwrap_err().to_string();
    assert!(said.contains("must be the Flavor's vcpus, 2"), "{said}");
    let said = flavor(&[("resources:PCPU", "2"), ("hw:cpu_policy", "dedicated")])
        .unwrap_err()
        .to_string();
    assert!(said.contains("leave one of the two out"), "{said}");
}
