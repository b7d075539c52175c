use super::*;

const SIZE: Size = Size {
    vcpus: 4,
    memory_bytes: 1024 * MIB,
};

fn hardware(pairs: &[(&str, &str)]) -> Hardware {
    let mut hardware = Hardware::default();
    for (key, value) in pairs {
        hardware.read(key, value).unwrap().unwrap();
    }
    hardware
}

fn of(flavor: &[(&str, &str)], image: &[(&str, &str)]) -> Result<Shape, String> {
    shape(SIZE, &hardware(flavor), &hardware(image)).map_err(|problems| problems.to_string())
}

fn cells(shape: &Shape) -> Vec<(String, String, u64)> {
    let cells = shape.topology.iter().flat_map(|topology| &topology.cells);
    cells
        .map(|cell| {
            (
                cell.vcpus.to_string(),
                cell.dedicated.to_string(),
                cell.memory_bytes / MIB,
            )
        })
        .collect()
}

fn cell(vcpus: &str, dedicated: &str, mib: u64) -> (String, String, u64) {
    (vcpus.into(), dedicated.into(), mib)
}

#[test]
fn one_who_asks_for_nothing_has_no_shape() {
    assert_eq!(of(&[], &[]), Ok(Shape::default()));
    assert_eq!(of(&[("cpu_policy", "shared")], &[]), Ok(Shape::default()));
    let shape = of(&[("emulator_threads_policy", "share")], &[]).unwrap();
    assert_eq!((shape.topology.is_none(), shape.vcpus(4), shape.pcpus()), (true, 4, 0));
}

#[test]
fn dedicated_cpus_and_sizes_of_pages_make_one_node() {
    let dedicated = of(&[("cpu_policy", "dedicated")], &[]).unwrap();
    assert_eq!(cells(&dedicated), [cell("0-3", "0-3", 1024)]);
    let isolated = of(
        &[("cpu_policy", "dedicated"), ("emulator_threads_policy", "isolate")],
        &[],
    )
    .unwrap();
    assert_eq!((isolated.vcpus(4), isolated.pcpus()), (0, 5));
    let paged = of(&[("mem_page_size", "large")], &[]).unwrap();
    assert_eq!(cells(&paged), [cell("0-3", "", 1024)]);
}

#[test]
fn nodes_are_cut_equally_or_by_hand() {
    let equal = of(&[("numa_nodes", "2")], &[]).unwrap();
    assert_eq!(cells(&equal), [cell("0,1", "", 512), cell("2,3", "", 512)]);
    let by_hand = [
        ("numa_nodes", "2"),
        ("numa_cpus.0", "0"),
        ("numa_cpus.1", "1-3"),
        ("numa_mem.0", "256"),
        ("numa_mem.1", "768"),
    ];
    let cut = of(&by_hand, &[]).unwrap();
    assert_eq!(cells(&cut), [cell("0", "", 256), cell("1-3", "", 768)]);
    assert_eq!(of(&[], &by_hand), Ok(cut), "an image may say it as well");
}

#[test]
fn a_mask_says_which_are_dedicated() {
    for (mask, dedicated) in [("2-3", "2,3"), ("^0", "1-3")] {
        let mixed = of(&[("cpu_policy", "mixed"), ("cpu_dedicated_mask", mask)], &[]).unwrap();
        assert_eq!(cells(&mixed), [cell("0-3", dedicated, 1024)]);
        assert_eq!(mixed.vcpus(4) + mixed.pcpus(), 4);
    }
}

#[test]
fn the_image_chooses_within_what_the_flavor_allows() {
    let own = of(&[], &[("cpu_policy", "dedicated"), ("cpu_thread_policy", "isolate")]).unwrap();
    assert_eq!(own.topology.unwrap().thread_policy, ThreadPolicy::Isolate);
    let preferred = of(
        &[("cpu_policy", "dedicated"), ("cpu_thread_policy", "prefer")],
        &[("cpu_thread_policy", "require")],
    );
    assert_eq!(preferred.unwrap().topology.unwrap().thread_policy, ThreadPolicy::Prefer);
    let page = of(&[("mem_page_size", "any")], &[("mem_page_size", "2MB")]).unwrap();
    assert_eq!(page.topology.unwrap().page_size, Some(PageSize::Kib(2048)));
}

#[test]
fn what_contradicts_is_refused_with_the_field_and_the_cure() {
    let dedicated = ("cpu_policy", "dedicated");
    for (flavor, image, words) in [
        (
            &[("cpu_policy", "shared")][..],
            &[dedicated][..],
            "spec.properties[hw_cpu_policy]: asks for more",
        ),
        (
            &[("cpu_thread_policy", "isolate")],
            &[],
            "spec.extraSpecs[hw:cpu_thread_policy]: is for CPUs of its own",
        ),
        (
            &[dedicated, ("cpu_thread_policy", "isolate")],
            &[("cpu_thread_policy", "require")],
            "spec.properties[hw_cpu_thread_policy]: is not that of the Flavor",
        ),
        (
            &[],
            &[("mem_page_size", "2MB")],
            "spec.properties[hw_mem_page_size]: may be chosen",
        ),
        (
            &[("mem_page_size", "1GB")],
            &[("mem_page_size", "2MB")],
            "may be chosen",
        ),
        (
            &[("cpu_policy", "mixed")],
            &[],
            "spec.extraSpecs[hw:cpu_dedicated_mask]: names which",
        ),
        (
            &[dedicated, ("cpu_dedicated_mask", "1")],
            &[],
            "is for hw:cpu_policy mixed",
        ),
        (
            &[("cpu_policy", "mixed"), ("cpu_dedicated_mask", "0-3")],
            &[],
            "leaves all CPUs or none",
        ),
        (
            &[("cpu_policy", "mixed"), ("cpu_dedicated_mask", "3-4")],
            &[],
            "it has 0-3",
        ),
        (
            &[("emulator_threads_policy", "isolate")],
            &[],
            "only where CPUs are dedicated",
        ),
        (&[("numa_nodes", "3")], &[], "can't cut 4 CPUs and 1024 MiB"),
        (&[("numa_nodes", "8")], &[], "can't cut"),
        (
            &[("numa_nodes", "2")],
            &[("numa_nodes", "2")],
            "spec.properties[hw_numa_nodes]: can't be said",
        ),
        (
            &[("numa_cpus.0", "0-3")],
            &[],
            "spec.extraSpecs[hw:numa_mem.0]: is missing",
        ),
        (
            &[("numa_cpus.0", "0-2"), ("numa_mem.0", "1024")],
            &[],
            "leaves out the CPUs 3",
        ),
        (&[("numa_cpus.0", "0-4"), ("numa_mem.0", "1024")], &[], "it has 0-3"),
        (
            &[("numa_cpus.0", "0-3"), ("numa_mem.0", "1000")],
            &[],
            "is 1000 MiB in all nodes together",
        ),
        (
            &[
                ("numa_nodes", "1"),
                ("numa_cpus.0", "0-3"),
                ("numa_mem.0", "1024"),
                ("numa_mem.1", "1"),
            ],
            &[],
            "spec.extraSpecs[hw:numa_mem.1]: is of a node beyond the last",
        ),
        (
            &[("pci_numa_affinity_policy", "required")],
            &[("pci_numa_affinity_policy", "socket")],
            "spec.properties[hw_pci_numa_affinity_policy]: is not that",
        ),
    ] {
        let said = of(flavor, image).unwrap_err();
        assert!(said.contains(words), "{flavor:?} {image:?}: {said}");
    }
}

#[test]
fn a_property_stands_for_the_key_of_its_name() {
    let properties = [
        ("hw_cpu_policy", "dedicated"),
        ("hw_numa_mem.0", "x"),
        ("os_distro", "debian"),
    ];
    let properties = properties
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    assert_eq!(image_hardware(&properties), hardware(&[("cpu_policy", "dedicated")]));
    assert_eq!(image_key("hw_cpu_dedicated_mask"), None, "only operators name a mask");
    assert_eq!(image_key("hw_numa_cpus.3"), Some("numa_cpus.3"));
}
