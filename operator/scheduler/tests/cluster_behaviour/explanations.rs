//! Why there? And profiles, aggregates and resource classes as callers see them.

use std::collections::BTreeMap;

use virga_scheduler::{
    Aggregate, Asker, Claim, Cluster, Event, Host, Inventory, Profile, ProfileSpec, Request, Strategy, Uid, Verdict,
    WeigherSpec,
};

use crate::worlds::{START, TTL, chosen, cluster, cluster_with, host, request, size};

#[test]
fn a_decision_is_kept_with_where_each_weight_comes_from() {
    let mut cluster = cluster(&["a", "b"]);
    cluster.upsert_host(Host {
        alive: false,
        ..host("c")
    });
    cluster.place(&Uid::from("db"), "a", &size(8, 8, 50), None);
    assert_eq!(chosen(&mut cluster, &request("web-1")), "b");
    let explanation = cluster.explanation(&Uid::from("web-1")).unwrap();
    assert_eq!((explanation.hosts, explanation.survivors), (3, 2));
    assert_eq!(explanation.age(START + TTL), TTL);
    let rejection = &explanation.rejections[0];
    assert_eq!((rejection.filter, rejection.count), ("ComputeFilter", 1));
    let parts: Vec<(&str, f64, f64)> = explanation.best[1]
        .parts
        .iter()
        .map(|part| (part.weigher, part.measure, part.weight()))
        .collect();
    assert_eq!(explanation.best[1].host, "a");
    for (part, expected) in parts.iter().zip([
        ("RAMWeigher", 8.0 * 1_073_741_824.0, 0.5),
        ("CPUWeigher", 24.0, 0.75),
        ("DiskWeigher", 50.0 * 1_073_741_824.0, 0.5),
    ]) {
        assert!(
            part.0 == expected.0 && (part.1 - expected.1).abs() < 1e-6 && (part.2 - expected.2).abs() < 1e-12,
            "{part:?}"
        );
    }
    assert_eq!(parts.len(), 3, "what tells no hosts apart is left out");
    assert_eq!((explanation.asked_by, explanation.bound_after), (None, None));
    cluster.asked_by(&Uid::from("web-1"), Asker::Admission);
    cluster.rename_explanation(&Uid::from("web-1"), &Uid::from("object"), "shop/web-1");
    cluster.seen_bound(&Uid::from("object"), "a", START);
    for seen in [START + TTL, START + 2 * TTL] {
        cluster.seen_bound(&Uid::from("object"), "b", seen);
    }
    let explanation = cluster.explanation(&Uid::from("object")).unwrap();
    assert_eq!(explanation.asked_by, Some(Asker::Admission));
    assert_eq!(explanation.bound_after, Some(TTL), "when it was seen first");
    assert_eq!(cluster.explanations().count(), 1);
}

#[test]
fn a_refusal_is_kept_too() {
    let mut cluster = cluster(&["a"]);
    let nowhere = Request {
        zone: Some("az9".to_owned()),
        ..request("web-1")
    };
    let refusal = cluster.schedule(&nowhere, START).unwrap_err();
    let explanation = cluster.explanation(&nowhere.uid).unwrap();
    assert_eq!(
        (explanation.host.as_ref(), &explanation.rejections),
        (None, &refusal.rejections)
    );
    cluster.seen_bound(&nowhere.uid, "a", START);
    assert_eq!(cluster.explanation(&nowhere.uid).unwrap().bound_after, None);
}

#[test]
fn a_table_is_made_as_if_the_instance_were_nowhere_yet() {
    let mut cluster = cluster(&["a"]);
    let whole = Request {
        resources: size(8, 16, 100),
        ..request("web-1")
    };
    chosen(&mut cluster, &whole);
    let table = cluster.explain(&whole);
    assert_eq!(table.chosen.as_deref(), Some("a"));
    assert_eq!(cluster.usage("a").instances, 1, "it is still there");
    assert_eq!(cluster.reservations(), 1);
    let other = cluster.explain(&request("web-2"));
    assert_eq!(other.chosen, None);
    let Verdict::Rejected { filter, .. } = &other.hosts[0].verdict else {
        panic!("{other:?}")
    };
    assert_eq!(*filter, "RamFilter");
}

#[test]
fn chance_takes_any_host_that_passes_and_the_same_one_for_the_same_request() {
    let mut cluster = cluster_with(&ProfileSpec {
        strategy: Strategy::Chance,
        ..ProfileSpec::default()
    });
    for (name, used) in [("a", 0), ("b", 7), ("c", 15)] {
        cluster.upsert_host(host(name));
        cluster.place(&Uid::from(name), name, &size(0, used, 0), None);
    }
    let mut met: BTreeMap<String, u32> = BTreeMap::new();
    for n in 0..300 {
        let asked = request(&format!("i-{n}"));
        let placement = cluster.dry_run(&asked).unwrap();
        let mut copy = cluster.clone();
        assert_eq!(copy.schedule(&asked, START).unwrap(), placement);
        let best = &copy.explanation(&asked.uid).unwrap().best;
        assert!(best.len() == 3 && best.iter().all(|best| best.weight == 0.0));
        *met.entry(placement.host).or_default() += 1;
    }
    assert!(met.len() == 3 && met.values().all(|&count| count > 60), "{met:?}");
}

#[test]
fn an_aggregate_s_multiplier_holds_for_its_hosts_only_and_the_least_of_several() {
    let spec = ProfileSpec {
        weighers: vec![WeigherSpec {
            name: "RAMWeigher".to_owned(),
            multiplier: 1.0,
        }],
        ..ProfileSpec::default()
    };
    let mut cluster = cluster_with(&spec);
    for (name, used) in [("a", 0), ("b", 8), ("c", 12)] {
        cluster.upsert_host(host(name));
        cluster.place(&Uid::from(name), name, &size(0, used, 0), None);
    }
    let aggregate = |name: &str, multiplier: &str| Aggregate {
        name: name.to_owned(),
        hosts: ["b".to_owned()].into(),
        zone: None,
        metadata: [("ram_weight_multiplier".to_owned(), multiplier.to_owned())].into(),
    };
    let weight_of = |cluster: &Cluster, name: &str| {
        let mut copy = cluster.clone();
        copy.schedule(&request("web-1"), START).unwrap();
        let best = &copy.explanation(&Uid::from("web-1")).unwrap().best;
        best.iter().find(|scored| scored.host == name).unwrap().weight
    };
    let close = |weight: f64, expected: f64| assert!((weight - expected).abs() < 1e-12, "{weight}");
    close(weight_of(&cluster, "b"), 0.5);
    cluster.upsert_aggregate(aggregate("rack", "6"));
    cluster.upsert_aggregate(aggregate("row", "4"));
    close(weight_of(&cluster, "b"), 2.0);
    close(weight_of(&cluster, "a"), 1.0);
    cluster.remove_aggregate("row");
    close(weight_of(&cluster, "b"), 3.0);
    cluster.upsert_aggregate(aggregate("rack", "a lot"));
    close(weight_of(&cluster, "b"), 0.5);
}

#[test]
fn another_profile_holds_from_the_next_decision_on() {
    let mut cluster = cluster(&["a", "b"]);
    cluster.place(&Uid::from("db"), "a", &size(1, 1, 1), None);
    assert_eq!(cluster.dry_run(&request("web-1")).unwrap().host, "b");
    cluster.take_events();
    let spec = ProfileSpec {
        strategy: Strategy::Pack,
        ..ProfileSpec::default()
    };
    cluster.set_profile(Profile::resolve(&spec).unwrap());
    assert_eq!(cluster.take_events(), [Event::Resync]);
    assert_eq!(cluster.dry_run(&request("web-1")).unwrap().host, "a");
}

#[test]
fn units_of_a_class_are_reserved_confirmed_and_given_back() {
    let mut cluster = cluster(&[]);
    cluster.upsert_host(Host {
        inventories: [("CUSTOM_LICENCE".to_owned(), Inventory::new(3))].into(),
        ..host("a")
    });
    let mut licensed = request("web-1");
    licensed.demands_mut().resources.insert("CUSTOM_LICENCE".to_owned(), 2);
    chosen(&mut cluster, &licensed);
    let another = Request {
        uid: Uid::from("web-2"),
        ..licensed.clone()
    };
    let refusal = cluster.schedule(&another, START).unwrap_err();
    assert_eq!(refusal.to_string(), "0/1 hosts: 1 ResourceClassFilter (CUSTOM_LICENCE)");
    assert!(cluster.schedule(&licensed, START).unwrap().reused);
    let claim = Claim {
        units: licensed.demands.as_ref().map(|demands| &demands.resources),
        ..Claim::new("a", &licensed.resources)
    };
    cluster.place_claim(&licensed.uid, &claim);
    assert_eq!(
        (cluster.reservations(), cluster.units_used("a")["CUSTOM_LICENCE"]),
        (0, 2)
    );
    cluster.forget(&licensed.uid);
    assert!(cluster.units_used("a").is_empty());
    assert!(cluster.schedule(&another, START).is_ok());
}
