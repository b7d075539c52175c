//! One decision, one reservation, whatever the order of events.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;

use virga_scheduler::{
    Aspects, Event, Group, Host, Placement, Policy, ProfileSpec, Ratios, Request, Scheduling, Strategy, Uid, Usage,
};

use crate::worlds::{GIB, START, TTL, chosen, cluster, cluster_with, host, request, size};

#[test]
fn a_refusal_counts_each_host_once_under_the_first_filter_that_rejects_it() {
    let mut cluster = cluster(&[]);
    for n in 0..12 {
        let mut host = host(&format!("node-{n}"));
        match n {
            // These would fail RamFilter too.
            0 | 1 => {
                host.scheduling = Scheduling::Cordoned {
                    reason: format!("ticket {n}"),
                }
            }
            2..=4 => host.zone = "az2".to_owned(),
            _ => {}
        }
        host.reserved = size(0, 16, 0);
        cluster.upsert_host(host);
    }
    let asked = Request {
        zone: Some("az1".to_owned()),
        ..request("web-1")
    };
    let refusal = cluster.schedule(&asked, START).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "0/12 hosts: 7 RamFilter, 3 AvailabilityZoneFilter, 2 ComputeFilter (disabled)"
    );
    let order: Vec<_> = refusal
        .rejections
        .iter()
        .map(|rejection| (rejection.filter, rejection.count))
        .collect();
    assert_eq!(
        order,
        [("ComputeFilter", 2), ("AvailabilityZoneFilter", 3), ("RamFilter", 7)]
    );
    assert_eq!(refusal.reads, Aspects::LIVENESS | Aspects::ZONE | Aspects::CAPACITY);
    assert_eq!((cluster.len(), cluster.reservations()), (0, 0));
}

#[test]
fn an_empty_cluster_says_so() {
    let refusal = cluster(&[]).schedule(&request("web-1"), START).unwrap_err();
    assert_eq!(refusal.to_string(), "0/0 hosts: no Hypervisor has registered");
}

#[test]
fn weights_are_nova_s_sum_of_normalised_measures() {
    // Free after what is placed: a 32-8=24 vcpus, 16-4=12 GiB, 100-50=50 GiB; b 16, 8, 100; c 32, 4, 25.
    // Scales start at zero and end at the largest: 32, 12, 100.
    let mut cluster = cluster(&["a", "b", "c"]);
    for (host, used) in [("a", size(8, 4, 50)), ("b", size(16, 8, 0)), ("c", size(0, 12, 75))] {
        cluster.place(&Uid::from(host), host, &used, None);
    }
    let Placement {
        host,
        hosts,
        survivors,
        reused,
        ..
    } = cluster.schedule(&request("web-1"), START).unwrap();
    assert_eq!((host.as_str(), hosts, survivors, reused), ("a", 3, 3, false));
    let expected = [
        ("a", 1.0 + 0.75 + 0.5),
        ("b", 8.0 / 12.0 + 0.5 + 1.0),
        ("c", 4.0 / 12.0 + 1.0 + 0.25),
    ]
    .map(|(host, weight)| (host.to_owned(), weight));
    let best = &cluster.explanation(&Uid::from("web-1")).unwrap().best;
    for (weighed, (host, weight)) in best.iter().zip(&expected) {
        assert_eq!(&weighed.host, host);
        assert!((weighed.weight - weight).abs() < 1e-12, "{weighed:?}");
    }
    assert_eq!(best.len(), 3);
}

#[test]
fn spreading_fills_hosts_in_turn_and_packing_fills_one_first() {
    let count = |strategy| {
        let mut cluster = cluster_with(&ProfileSpec {
            strategy,
            ..ProfileSpec::default()
        });
        for name in ["a", "b", "c", "d"] {
            cluster.upsert_host(host(name));
        }
        let mut hosts: BTreeMap<String, u32> = BTreeMap::new();
        for n in 0..8 {
            *hosts
                .entry(chosen(&mut cluster, &request(&format!("i-{n}"))))
                .or_default() += 1;
        }
        hosts.into_values().collect::<Vec<_>>()
    };
    assert_eq!(count(Strategy::Spread), [2, 2, 2, 2]);
    assert_eq!(count(Strategy::Pack), [8]);
}

#[test]
fn equals_take_turns_and_the_same_request_always_meets_the_same_host() {
    let names: Vec<String> = (0..20).map(|n| format!("node-{n}")).collect();
    let forward = cluster(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let backward = cluster(&names.iter().rev().map(String::as_str).collect::<Vec<_>>());
    let mut met = BTreeSet::new();
    for n in 0..200 {
        let request = request(&format!("i-{n}"));
        let host = forward.dry_run(&request).unwrap().host;
        assert_eq!(
            backward.dry_run(&request).unwrap().host,
            host,
            "the order of arrival must not matter"
        );
        met.insert(host);
    }
    assert!(met.len() > 15, "{met:?}");
}

#[test]
fn a_subset_of_three_uses_the_best_three_only() {
    let spec = ProfileSpec {
        host_subset_size: NonZeroU8::new(3).unwrap(),
        ..ProfileSpec::default()
    };
    let mut cluster = cluster_with(&spec);
    for (name, used) in [("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 4)] {
        cluster.upsert_host(host(name));
        cluster.place(&Uid::from(name), name, &size(0, used, 0), None);
    }
    let hosts: BTreeSet<_> = (0..100)
        .map(|n| cluster.dry_run(&request(&format!("i-{n}"))).unwrap().host)
        .collect();
    assert_eq!(hosts.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn the_last_room_is_promised_once() {
    let mut cluster = cluster(&["a"]);
    let whole = Request {
        resources: size(8, 16, 100),
        ..request("first")
    };
    assert_eq!(chosen(&mut cluster, &whole), "a");
    let refusal = cluster.schedule(&request("second"), START).unwrap_err();
    assert_eq!(refusal.to_string(), "0/1 hosts: 1 RamFilter");
    cluster.unreserve(&whole.uid);
    assert_eq!(chosen(&mut cluster, &request("second")), "a");
}

#[test]
fn a_dry_run_reserves_nothing() {
    let cluster = cluster(&["a"]);
    let whole = Request {
        resources: size(8, 16, 100),
        ..request("first")
    };
    assert_eq!(cluster.dry_run(&whole).unwrap().host, "a");
    assert_eq!(
        cluster
            .dry_run(&Request {
                uid: Uid::from("second"),
                ..whole
            })
            .unwrap()
            .host,
        "a"
    );
    assert_eq!((cluster.len(), cluster.usage("a")), (0, Usage::default()));
}

#[test]
fn a_retried_admission_gets_the_same_host_and_holds_the_room_once() {
    let mut cluster = cluster(&["a", "b", "c"]);
    let first = cluster.schedule(&request("web-1"), START).unwrap();
    for n in 0..20 {
        chosen(&mut cluster, &request(&format!("other-{n}")));
    }
    let again = cluster.schedule(&request("web-1"), START + TTL / 2).unwrap();
    assert_eq!((again.host, again.reused), (first.host.clone(), true));
    assert_eq!(cluster.len(), 21);
    let until = cluster.binding(&Uid::from("web-1")).unwrap().reserved_until;
    assert_eq!(until, Some(START + TTL / 2 + TTL), "renewed");

    cluster.place(&Uid::from("web-1"), &first.host, &size(1, 1, 10), None);
    assert_eq!(cluster.schedule(&request("web-1"), START).unwrap().host, first.host);
    assert_eq!(cluster.binding(&Uid::from("web-1")).unwrap().reserved_until, None);
}

#[test]
fn a_retry_that_asks_for_more_is_decided_anew() {
    let mut cluster = cluster(&["a"]);
    chosen(&mut cluster, &request("web-1"));
    let larger = Request {
        resources: size(2, 8, 20),
        ..request("web-1")
    };
    assert!(!cluster.schedule(&larger, START).unwrap().reused);
    assert_eq!(cluster.usage("a").memory_bytes, u128::from(8 * GIB));
    let too_large = Request {
        resources: size(2, 17, 20),
        ..request("web-1")
    };
    assert!(cluster.schedule(&too_large, START).is_err());
    assert_eq!((cluster.len(), cluster.usage("a")), (0, Usage::default()));
}

#[test]
fn a_reservation_ends_when_its_create_never_shows() {
    let mut cluster = cluster(&["a"]);
    chosen(&mut cluster, &request("dropped"));
    chosen(&mut cluster, &request("created"));
    cluster.place(&Uid::from("created"), "a", &size(1, 1, 10), None);
    assert_eq!(cluster.expire(START + TTL / 2), []);
    assert_eq!(cluster.expire(START + TTL), [Uid::from("dropped")]);
    assert_eq!(
        (cluster.len(), cluster.reservations(), cluster.usage("a").instances),
        (1, 0, 1)
    );
}

#[test]
fn a_host_that_rejected_the_instance_loses_it_to_another() {
    let mut cluster = cluster(&["a", "b"]);
    let first = chosen(&mut cluster, &request("web-1"));
    cluster.place(&Uid::from("web-1"), &first, &size(1, 1, 10), None);
    let again = Request {
        excluded_hosts: BTreeSet::from([first.clone()]),
        ..request("web-1")
    };
    assert_eq!(cluster.dry_run(&again).unwrap().host, chosen(&mut cluster, &again));
    assert_eq!(cluster.usage(&first), Usage::default());
    // Rejected by both: what was seen is still accounted, until the watch says otherwise.
    let second = cluster.binding(&again.uid).unwrap().host.to_owned();
    cluster.place(&again.uid, &second, &size(1, 1, 10), None);
    let nowhere = Request {
        excluded_hosts: BTreeSet::from([first, second.clone()]),
        ..again
    };
    assert_eq!(
        cluster.schedule(&nowhere, START).unwrap_err().to_string(),
        "0/2 hosts: 2 RetryFilter"
    );
    assert_eq!(cluster.binding(&nowhere.uid).unwrap().host, second);
}

#[test]
fn a_placement_seen_before_its_host_is_counted_when_the_host_shows() {
    let mut cluster = cluster(&[]);
    cluster.place(&Uid::from("web-1"), "a", &size(8, 15, 10), Some(&Uid::from("web")));
    assert_eq!(cluster.schedule(&request("web-2"), START).unwrap_err().hosts, 0);
    cluster.upsert_host(host("a"));
    assert_eq!(cluster.usage("a").instances, 1);
    let large = Request {
        resources: size(1, 2, 10),
        ..request("web-2")
    };
    assert_eq!(
        cluster.schedule(&large, START).unwrap_err().to_string(),
        "0/1 hosts: 1 RamFilter"
    );
    let apart = Group {
        uid: Uid::from("web"),
        policy: Policy::ANTI_AFFINITY,
    };
    let member = Request {
        group: Some(apart),
        ..request("web-3")
    };
    assert_eq!(
        cluster.schedule(&member, START).unwrap_err().to_string(),
        "0/1 hosts: 1 ServerGroupAntiAffinityFilter"
    );
}

#[test]
fn a_host_that_comes_back_still_holds_what_was_on_it() {
    let mut cluster = cluster(&["a"]);
    cluster.place(&Uid::from("web-1"), "a", &size(8, 16, 10), None);
    cluster.remove_host("a");
    cluster.remove_host("a");
    assert_eq!(cluster.schedule(&request("web-2"), START).unwrap_err().hosts, 0);
    cluster.upsert_host(host("a"));
    assert!(cluster.schedule(&request("web-2"), START).is_err());
    cluster.remove_host("a");
    cluster.forget(&Uid::from("web-1"));
    cluster.upsert_host(host("a"));
    assert_eq!(chosen(&mut cluster, &request("web-2")), "a");
}

#[test]
fn a_reservation_on_a_host_that_is_gone_is_decided_anew() {
    let mut cluster = cluster(&["a"]);
    assert_eq!(chosen(&mut cluster, &request("web-1")), "a");
    cluster.remove_host("a");
    cluster.upsert_host(host("b"));
    assert_eq!(chosen(&mut cluster, &request("web-1")), "b");
    assert_eq!(cluster.len(), 1);
}

#[test]
fn two_members_created_at_once_never_share_a_host() {
    let mut cluster = cluster(&["a", "b"]);
    let apart = Group {
        uid: Uid::from("web"),
        policy: Policy::ANTI_AFFINITY,
    };
    let member = |uid| Request {
        group: Some(apart.clone()),
        ..request(uid)
    };
    let hosts = BTreeSet::from([
        chosen(&mut cluster, &member("web-1")),
        chosen(&mut cluster, &member("web-2")),
    ]);
    assert_eq!(hosts.len(), 2);
    assert_eq!(
        cluster.schedule(&member("web-3"), START).unwrap_err().to_string(),
        "0/2 hosts: 2 ServerGroupAntiAffinityFilter"
    );
    cluster.unreserve(&Uid::from("web-1"));
    assert!(cluster.schedule(&member("web-3"), START).is_ok());
}

#[test]
fn only_deletion_ends_both_placements_and_reservations() {
    let mut cluster = cluster(&["a"]);
    let uid = Uid::from("web-1");
    chosen(&mut cluster, &request("web-1"));
    cluster.unplace(&uid);
    assert!(
        cluster.binding(&uid).is_some(),
        "seen without a host before the binding showed"
    );
    cluster.place(&uid, "a", &size(1, 1, 10), None);
    cluster.unreserve(&uid);
    assert!(cluster.binding(&uid).is_some(), "what was seen is a fact");
    cluster.unplace(&uid);
    assert!(cluster.binding(&uid).is_none());
    chosen(&mut cluster, &request("web-1"));
    cluster.forget(&uid);
    assert!(cluster.binding(&uid).is_none());
}

#[test]
fn changes_that_may_help_are_told_and_others_are_not() {
    let mut cluster = cluster(&[]);
    cluster.upsert_host(host("a"));
    assert_eq!(cluster.take_events(), [Event::HostAdded]);
    cluster.upsert_host(host("a"));
    assert_eq!(cluster.take_events(), []);
    for told in [vec![Event::HostChanged(Aspects::LOAD)], Vec::new()] {
        cluster.set_load("a", 2, 0);
        assert_eq!(cluster.take_events(), told);
    }
    cluster.set_load("nowhere", 2, 0);
    assert_eq!(cluster.take_events(), []);
    cluster.upsert_host(Host { io_ops: 2, ..host("a") });
    assert_eq!(cluster.take_events(), []);
    cluster.set_load("a", 0, 0);
    cluster.take_events();
    cluster.place(&Uid::from("web-1"), "a", &size(8, 15, 90), None);
    assert_eq!(cluster.take_events(), [Event::InstanceMoved(Uid::from("web-1"))]);
    let ratios = Ratios {
        memory: "1.5".parse().unwrap(),
        ..Ratios::default()
    };
    cluster.upsert_host(Host {
        alive: false,
        ratios,
        ..host("a")
    });
    assert_eq!(
        cluster.take_events(),
        [Event::HostChanged(Aspects::LIVENESS | Aspects::CAPACITY)]
    );
    cluster.upsert_host(host("a"));
    cluster.take_events();
    cluster.place(&Uid::from("web-2"), "a", &size(1, 1, 10), Some(&Uid::from("web")));
    assert_eq!(
        cluster.take_events(),
        [
            Event::GroupChanged(Uid::from("web")),
            Event::InstanceMoved(Uid::from("web-2"))
        ]
    );
    cluster.forget(&Uid::from("web-2"));
    assert_eq!(
        cluster.take_events(),
        [
            Event::HostFreed { room: size(8, 1, 10) },
            Event::GroupChanged(Uid::from("web")),
            Event::InstanceMoved(Uid::from("web-2"))
        ]
    );
}

#[test]
fn more_events_than_are_kept_become_one_resync() {
    let mut cluster = cluster(&["a"]);
    for n in 0..2000 {
        // Now the one changes, now the other, so that no two events in a row are the same.
        cluster.upsert_host(Host {
            alive: n % 4 < 2,
            zone: format!("az{}", n / 2),
            ..host("a")
        });
        cluster.upsert_host(Host {
            alive: n % 4 >= 2,
            zone: format!("az{}", n / 2),
            ..host("a")
        });
    }
    let events = cluster.take_events();
    assert!(events.len() <= 1024 && events[0] == Event::Resync, "{}", events.len());
}
