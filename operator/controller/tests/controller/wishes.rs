//! What is asked of a host beyond room, from the resource to the placement: extra specs, traits, aggregates, zones, hints.

use serde_json::{Value, json};
use virga_crds::{
    Flavor, HostAggregate, HostAggregateSpec, Hypervisor, ImageRef, Instance, Placement, SchedulerHints, VolumeSource,
    conditions::Reason,
};
use virga_testkit::FakeApi;

use crate::harness::{
    Replica, api, bound, flavor, image, instance, leader, node,
    reviews::{causes, validate, volume, warnings},
    settle, stock, waits_for,
};

/// The stock, and hosts whose Hypervisors say this.
async fn hosts(api: &FakeApi, hosts: &[(&str, Value)]) {
    stock(api);
    for (name, spec) in hosts {
        node(api, name).await;
        api.merge::<Hypervisor>(None, name, json!({"spec": spec}));
    }
}

fn with_extra_specs(name: &str, extra: &Value) -> Flavor {
    let mut flavor = flavor(name);
    flavor.spec.extra_specs = serde_json::from_value(extra.clone()).unwrap();
    flavor
}

fn of_flavor(name: &str, flavor: &str) -> Instance {
    let mut new = instance(name);
    new.spec.flavor = flavor.into();
    new
}

fn with_hints(name: &str, hints: &Value) -> Instance {
    let mut new = instance(name);
    new.spec.placement = Some(Placement {
        hints: Some(serde_json::from_value::<SchedulerHints>(hints.clone()).unwrap()),
        ..Placement::default()
    });
    new
}

fn on_host(name: &str, host: &str) -> Instance {
    let mut new = instance(name);
    new.spec.placement = Some(Placement {
        host: Some(host.into()),
        ..Placement::default()
    });
    new
}

fn aggregate(name: &str, spec: &Value) -> HostAggregate {
    HostAggregate::new(name, serde_json::from_value::<HostAggregateSpec>(spec.clone()).unwrap())
}

fn named(flavor: &str) -> impl Fn(&str) -> Instance {
    let flavor = flavor.to_owned();
    move |name| of_flavor(name, &flavor)
}

#[tokio::test(start_paused = true)]
async fn traits_choose_the_host_whoever_asks_for_them() {
    let api = api();
    hosts(
        &api,
        &[("node-1", json!({})), ("node-2", json!({"traits": ["CUSTOM_SSD"]}))],
    )
    .await;
    api.create(&with_extra_specs("ssd", &json!({"trait:CUSTOM_SSD": "required"})));
    api.create(&with_extra_specs("no-ssd", &json!({"trait:CUSTOM_SSD": "forbidden"})));
    api.create(&with_extra_specs(
        "any",
        &json!({"trait:in:CUSTOM_NVME,CUSTOM_SSD": "required"}),
    ));
    let mut picky = image("picky");
    picky.spec.properties = [("trait:CUSTOM_SSD".into(), "required".into())].into();
    api.create(&picky);
    let _replica = leader(&api).await;
    for (flavor, host) in [("ssd", "node-2"), ("no-ssd", "node-1"), ("any", "node-2")] {
        api.create(&of_flavor(flavor, flavor));
        assert_eq!(bound(&api, flavor).await, host, "{flavor}");
    }
    let mut new = instance("from-picky");
    new.spec.image.as_mut().unwrap().name = "picky".into();
    api.create(&new);
    assert_eq!(bound(&api, "from-picky").await, "node-2");
}

#[tokio::test(start_paused = true)]
async fn a_machine_goes_where_its_devices_are() {
    let api = api();
    hosts(&api, &[("node-1", json!({})), ("node-2", json!({}))]).await;
    let found = [
        "COMPUTE_SECURITY_TPM_2_0",
        "COMPUTE_STORAGE_BUS_SATA",
        "COMPUTE_FIRMWARE_UEFI",
    ];
    api.merge::<Hypervisor>(None, "node-2", json!({"spec": {"traits": found}}));
    api.create(&with_extra_specs("trusted", &json!({"hw:tpm_version": "2.0"})));
    api.create(&with_extra_specs("old", &json!({"hw:tpm_version": "1.2"})));
    let mut sata = image("sata");
    sata.spec.properties = [
        ("hw_disk_bus".into(), "sata".into()),
        ("hw_firmware_type".into(), "uefi".into()),
    ]
    .into();
    api.create(&sata);
    let _replica = leader(&api).await;
    api.create(&of_flavor("sealed", "trusted"));
    assert_eq!(bound(&api, "sealed").await, "node-2");
    let mut new = instance("from-sata");
    new.spec.image.as_mut().unwrap().name = "sata".into();
    api.create(&new);
    assert_eq!(bound(&api, "from-sata").await, "node-2");
    // A boot volume that was made from it asks for the same.
    let mut disk = volume("disk");
    disk.spec.source = Some(VolumeSource {
        image: ImageRef {
            name: "sata".into(),
            namespace: None,
        },
    });
    api.create(&disk);
    let mut booted = instance("from-disk");
    (booted.spec.image, booted.spec.boot_volume) = (None, Some("disk".into()));
    api.create(&booted);
    assert_eq!(bound(&api, "from-disk").await, "node-2");
    api.create(&of_flavor("nowhere", "old"));
    let message = waits_for(&api, "nowhere", Reason::NoValidHost).await;
    assert!(message.contains("2 TraitsFilter"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_resource_of_the_operators_own_is_counted_and_given_back() {
    let api = api();
    let licences = json!({"inventories": [{"resourceClass": "CUSTOM_LICENCE", "total": 2}]});
    hosts(&api, &[("node-1", json!({})), ("node-2", licences)]).await;
    api.create(&with_extra_specs("licensed", &json!({"resources:CUSTOM_LICENCE": "1"})));
    let _replica = leader(&api).await;
    let licensed = named("licensed");
    for name in ["a", "b"] {
        api.create(&licensed(name));
        assert_eq!(bound(&api, name).await, "node-2");
    }
    api.create(&licensed("c"));
    let message = waits_for(&api, "c", Reason::NoValidHost).await;
    assert!(message.contains("0/2 hosts"), "{message}");
    api.merge::<Instance>(Some("shop"), "a", json!({"metadata": {"finalizers": null}}));
    api.delete::<Instance>(Some("shop"), "a");
    assert_eq!(bound(&api, "c").await, "node-2");
}

#[tokio::test(start_paused = true)]
async fn what_is_counted_survives_a_change_of_leader() {
    let api = api();
    let licences = json!({"inventories": [{"resourceClass": "CUSTOM_LICENCE", "total": 1}]});
    hosts(&api, &[("node-1", licences)]).await;
    api.create(&with_extra_specs("licensed", &json!({"resources:CUSTOM_LICENCE": "1"})));
    let first = leader(&api).await;
    api.create(&of_flavor("a", "licensed"));
    assert_eq!(bound(&api, "a").await, "node-1");
    first.stop().await;
    let second = Replica::start(&api, "b").await;
    second.lead().await;
    api.create(&of_flavor("b", "licensed"));
    waits_for(&api, "b", Reason::NoValidHost).await;
}

#[tokio::test(start_paused = true)]
async fn an_aggregate_makes_a_zone_and_its_change_wakes_who_waits() {
    let api = api();
    hosts(&api, &[("node-1", json!({})), ("node-2", json!({}))]).await;
    let _replica = leader(&api).await;
    let mut east = instance("east");
    east.spec.placement = Some(Placement {
        availability_zone: Some("az-east".into()),
        ..Placement::default()
    });
    api.create(&east);
    let message = waits_for(&api, "east", Reason::NoValidHost).await;
    assert_eq!(message, "0/2 hosts: 2 AvailabilityZoneFilter");
    let selector = json!({"matchLabels": {"rack": "2"}});
    api.create(&aggregate(
        "east",
        &json!({"availabilityZone": "az-east", "selector": selector}),
    ));
    settle(&api).await;
    api.merge::<Hypervisor>(None, "node-2", json!({"metadata": {"labels": {"rack": "2"}}}));
    assert_eq!(bound(&api, "east").await, "node-2");
}

#[tokio::test(start_paused = true)]
async fn what_aggregates_say_of_projects_flavors_and_extra_specs_holds() {
    let api = api();
    hosts(&api, &[("node-1", json!({})), ("node-2", json!({}))]).await;
    api.create(&with_extra_specs(
        "fast",
        &json!({"aggregate_instance_extra_specs:disk": "<or> ssd <or> nvme"}),
    ));
    api.create(&aggregate(
        "ssd",
        &json!({"hypervisors": ["node-2"], "metadata": {"disk": "nvme"}}),
    ));
    let _replica = leader(&api).await;
    api.create(&of_flavor("fast", "fast"));
    assert_eq!(bound(&api, "fast").await, "node-2");

    // The host is another project's now, and then for one flavor only.
    for (key, value) in [("filter_tenant_id", "blog"), ("instance_type", "m9.huge")] {
        api.merge::<HostAggregate>(None, "ssd", json!({"spec": {"metadata": {key: value}}}));
        settle(&api).await;
        let name = format!("not-{}", value.replace('.', "-"));
        api.create(&instance(&name));
        assert_eq!(bound(&api, &name).await, "node-1");
        api.merge::<HostAggregate>(None, "ssd", json!({"spec": {"metadata": {key: null}}}));
    }
    // Kept for those who require a trait.
    api.merge::<HostAggregate>(
        None,
        "ssd",
        json!({"spec": {"metadata": {"trait:CUSTOM_SSD": "required"}}}),
    );
    settle(&api).await;
    api.create(&of_flavor("refused", "fast"));
    waits_for(&api, "refused", Reason::NoValidHost).await;
    api.delete::<HostAggregate>(None, "ssd");
    settle(&api).await;
    api.create(&aggregate(
        "ssd",
        &json!({"hypervisors": ["node-2"], "metadata": {"disk": "ssd"}}),
    ));
    assert_eq!(bound(&api, "refused").await, "node-2");
}

#[tokio::test(start_paused = true)]
async fn hints_keep_instances_apart_and_together() {
    let api = api();
    hosts(&api, &[("node-1", json!({})), ("node-2", json!({}))]).await;
    let _replica = leader(&api).await;
    api.create(&on_host("first", "node-1"));
    assert_eq!(bound(&api, "first").await, "node-1");
    for (name, hints, host) in [
        ("apart", json!({"differentHost": ["first"]}), "node-2"),
        ("beside", json!({"sameHost": ["first"]}), "node-1"),
        ("by-name", json!({"query": r#"["=", "$host", "node-2"]"#}), "node-2"),
    ] {
        api.create(&with_hints(name, &hints));
        assert_eq!(bound(&api, name).await, host, "{name}");
    }
    api.create(&with_hints("nowhere", &json!({"differentHost": ["first", "apart"]})));
    let message = waits_for(&api, "nowhere", Reason::NoValidHost).await;
    assert_eq!(message, "0/2 hosts: 2 DifferentHostFilter");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_a_hint_names_and_that_is_not_there_is_warned_of_and_waited_for() {
    let api = api();
    hosts(&api, &[("node-1", json!({})), ("node-2", json!({}))]).await;
    let replica = leader(&api).await;
    let late = with_hints("late", &json!({"differentHost": ["web-1"]}));
    let expected = "spec.placement.hints.differentHost: there is no Instance \"web-1\" in namespace shop: create it";
    assert_eq!(warnings(&validate(&replica, &late, "Instance").await), [expected]);
    api.create(&late);
    assert_eq!(waits_for(&api, "late", Reason::InstanceNotFound).await, expected);
    api.create(&on_host("web-1", "node-1"));
    assert_eq!(bound(&api, "web-1").await, "node-1");
    bound(&api, "late").await;
}

#[tokio::test(start_paused = true)]
async fn a_network_card_that_no_host_has_is_warned_of_and_the_instance_waits_until_it_asks_for_another() {
    let api = api();
    hosts(&api, &[("node-1", json!({}))]).await;
    let replica = leader(&api).await;
    let mut fast = instance("fast");
    fast.spec.interfaces = serde_json::from_value(json!([{"network": "front", "vnicType": "Direct"}])).unwrap();
    let begin =
        "spec.interfaces[front].vnicType: no host has network cards whose functions its agent can plug into a Network";
    let warned = warnings(&validate(&replica, &fast, "Instance").await);
    assert!(warned.iter().any(|warning| warning.starts_with(begin)), "{warned:?}");
    api.create(&fast);
    let said = waits_for(&api, "fast", Reason::NoValidHost).await;
    assert!(said.starts_with(begin) && said.contains("as Normal"), "{said}");
    let normal = json!({"spec": {"interfaces": [{"network": "front"}]}});
    api.merge::<Instance>(Some("shop"), "fast", normal);
    assert_eq!(bound(&api, "fast").await, "node-1");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_an_operator_names_is_kept_to() {
    let api = api();
    let cordoned = json!({"scheduling": "Cordoned", "reason": "ticket 7"});
    hosts(&api, &[("node-1", json!({})), ("node-2", cordoned)]).await;
    let replica = leader(&api).await;
    settle(&api).await;
    let forced = on_host("forced", "node-2");
    assert_eq!(
        warnings(&validate(&replica, &forced, "Instance").await),
        [
            "spec.placement.host: the host \"node-2\" is cordoned: the Instance waits until it is not; or name another host"
        ]
    );
    api.create(&forced);
    waits_for(&api, "forced", Reason::NoValidHost).await;
    api.merge::<Hypervisor>(
        None,
        "node-2",
        json!({"spec": {"scheduling": "Enabled", "reason": null}}),
    );
    assert_eq!(bound(&api, "forced").await, "node-2");

    api.create(&on_host("nowhere", "node-9"));
    assert_eq!(
        waits_for(&api, "nowhere", Reason::HypervisorNotFound).await,
        "spec.placement.host: there is no Hypervisor \"node-9\": add the host, or name another"
    );
    node(&api, "node-9").await;
    assert_eq!(bound(&api, "nowhere").await, "node-9");
}

#[tokio::test(start_paused = true)]
async fn what_no_host_can_ever_fulfil_is_refused_with_its_field() {
    let api = api();
    hosts(&api, &[("node-1", json!({"availabilityZone": "az1"}))]).await;
    api.create(&aggregate("racks", &json!({"selector": {}, "metadata": {"rack": "1"}})));
    api.create(&with_extra_specs("no-ssd", &json!({"trait:CUSTOM_SSD": "forbidden"})));
    let mut picky = image("picky");
    picky.spec.properties = [("trait:CUSTOM_SSD".into(), "required".into())].into();
    api.create(&picky);
    let mut silent = image("silent");
    silent.spec.properties = [("hw_tpm_version".into(), "1.2".into())].into();
    api.create(&silent);
    api.create(&with_extra_specs("tpm-2", &json!({"hw:tpm_version": "2.0"})));
    api.create(&with_hints("waits", &json!({"sameHost": ["web"]})));
    let replica = Replica::start(&api, "a").await;
    let mut contradicted = of_flavor("web", "no-ssd");
    contradicted.spec.image.as_mut().unwrap().name = "picky".into();
    let mut torn = of_flavor("web", "tpm-2");
    torn.spec.image.as_mut().unwrap().name = "silent".into();
    let deep = format!("{}true{}", r#"["not", "#.repeat(20), "]".repeat(20));
    let refused: Vec<(Value, &str, &str)> = vec![
        (
            json!(contradicted),
            "spec.flavor",
            "the Image \"picky\" requires trait CUSTOM_SSD, and Flavor \"no-ssd\" forbids it",
        ),
        (
            json!(torn),
            "spec.image",
            "spec.properties[hw_tpm_version]: is not what the Flavor's hw:tpm_version says",
        ),
        (
            json!(with_extra_specs("f", &json!({"quota:disk_total_iops_sec_max": "9"}))),
            "spec.extraSpecs[quota:disk_total_iops_sec_max]",
            "write quota:disk_total_iops_sec as well",
        ),
        (
            json!(with_hints("web", &json!({"query": "[\">=\", "}))),
            "spec.placement.hints.query",
            "not JSON",
        ),
        (
            json!(with_hints("web", &json!({"query": deep}))),
            "spec.placement.hints.query",
            "levels deep",
        ),
        (
            json!(with_hints("web", &json!({"query": "[\"=\", \"$secrets\", 1]"}))),
            "spec.placement.hints.query",
            "secrets",
        ),
        (
            json!(with_hints("web", &json!({"sameHost": ["web"]}))),
            "spec.placement.hints.sameHost",
            "beside itself",
        ),
        (
            json!(with_hints("web", &json!({"sameHost": ["waits"]}))),
            "spec.placement.hints.sameHost",
            "web, waits, web",
        ),
        (
            json!(with_extra_specs("f", &json!({"hw:cpu_polcy": "shared"}))),
            "spec.extraSpecs[hw:cpu_polcy]",
            "did you mean hw:cpu_policy?",
        ),
        (
            json!(with_extra_specs("f", &json!({"capabilities:magic": "1"}))),
            "spec.extraSpecs[capabilities:magic]",
            "a host has no such capability",
        ),
        (
            json!(aggregate(
                "east",
                &json!({"hypervisors": ["node-1"], "availabilityZone": "az2"})
            )),
            "spec.availabilityZone",
            "node-1 is in zone az1 by its own Hypervisor: a host has one zone",
        ),
        (
            json!(aggregate(
                "east",
                &json!({"selector": {}, "metadata": {"ram_allocation_ratio": "0"}})
            )),
            "spec.metadata[ram_allocation_ratio]",
            "above 0",
        ),
    ];
    for (object, field, words) in refused {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let (code, causes) = causes(&validate(&replica, &object, &kind).await);
        assert_eq!((code, causes.len()), (422, 1), "{causes:?}");
        assert!(
            causes[0].starts_with(&format!("{field}: ")) && causes[0].contains(words),
            "{causes:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_is_not_put_into_a_second_zone_by_its_own_word_either() {
    let api = api();
    hosts(&api, &[("node-1", json!({}))]).await;
    api.create(&aggregate(
        "east",
        &json!({"selector": {}, "availabilityZone": "az-east"}),
    ));
    let replica = Replica::start(&api, "a").await;
    let mut moved = api.read::<Hypervisor>(None, "node-1").unwrap();
    moved.spec.availability_zone = Some("az-west".into());
    let (code, found) = causes(&validate(&replica, &moved, "Hypervisor").await);
    assert_eq!(code, 422);
    assert_eq!(
        found,
        [
            "spec.availabilityZone: the host is in zone az-east by HostAggregate east: leave this field out, or take the host out of there"
        ]
    );
    moved.spec.availability_zone = Some("az-east".into());
    moved.spec.traits = vec!["CUSTOM_A".into()];
    assert!(warnings(&validate(&replica, &moved, "Hypervisor").await).is_empty());
}
