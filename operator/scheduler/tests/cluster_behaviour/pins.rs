//! Cells and devices: promised, told by the host, given back, never promised twice.

use std::sync::Arc;
use std::time::Duration;

use virga_scheduler::topology::{
    CpuSet, GuestTopology, HostCell, HostTopology, Occupied, PciAffinity, PciDevice, PciRequest, Pinning,
};
use virga_scheduler::{Cause, Claim, Cluster, Host, Request, Resources, Uid, Waiting};

use crate::worlds::{START, TTL, chosen, cluster, host, request};

const LATER: Duration = Duration::from_secs(5000);

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

/// One cell with the dedicated CPUs 2 to 5, and a GPU.
fn celled(name: &str) -> Host {
    let cell = HostCell {
        id: 0,
        socket: 0,
        shared: set("0,1"),
        dedicated: set("2-5"),
        siblings: Vec::new(),
        memory_bytes: 16 << 30,
        pages: Vec::new(),
    };
    let gpu = PciDevice {
        address: "0000:01:00.0".to_owned(),
        alias: "gpu".to_owned(),
        cell: Some(0),
    };
    let topology = HostTopology {
        cells: vec![cell],
        devices: vec![gpu],
    };
    Host {
        topology: Some(Arc::new(topology)),
        ..host(name)
    }
}

fn pinned(uid: &str, cpus: u32) -> Request {
    let mut request = request(uid);
    request.demands_mut().topology = Some(GuestTopology::dedicated(1, cpus, 1 << 20));
    request
}

fn world() -> Cluster {
    let mut cluster = cluster(&[]);
    cluster.upsert_host(celled("a"));
    cluster
}

/// What the watch shows of an Instance, with or without its host's word.
fn seen<'a>(request: &'a Request, host: &'a str, pinning: Option<&'a Pinning>) -> Claim<'a> {
    Claim {
        topology: request.demands.as_ref().unwrap().topology.as_ref(),
        devices: &request.demands.as_ref().unwrap().devices,
        pinning,
        ..Claim::new(host, &request.resources)
    }
}

fn cpus(cluster: &Cluster, uid: &str) -> Option<String> {
    let pinning = cluster.pinning(&Uid::from(uid))?;
    let pins = pinning.cells.iter().flat_map(|cell| &cell.pins);
    Some(pins.map(|&(_, cpu)| cpu).collect::<CpuSet>().to_string())
}

fn occupied(cluster: &Cluster) -> String {
    cluster.occupied("a").unwrap().cpus().to_string()
}

#[test]
fn cpus_are_promised_kept_and_given_back() {
    let mut cluster = world();
    let placement = cluster.schedule(&pinned("web-1", 3), START).unwrap();
    assert_eq!(placement.pinning.as_ref(), cluster.pinning(&Uid::from("web-1")));
    assert_eq!(cpus(&cluster, "web-1"), Some("2-4".to_owned()));
    let refusal = cluster.schedule(&pinned("web-2", 2), START).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "0/1 hosts: 1 NUMATopologyFilter (too few dedicated CPUs in a cell)"
    );
    // Asked again, and seen: the same CPUs.
    let again = cluster.schedule(&pinned("web-1", 3), START).unwrap();
    assert!(again.reused && again.pinning == placement.pinning);
    let request = pinned("web-1", 3);
    cluster.place_claim(&request.uid, &seen(&request, "a", None));
    assert_eq!((cluster.reservations(), occupied(&cluster)), (0, "2-4".to_owned()));
    cluster.forget(&request.uid);
    assert!(cluster.occupied("a").unwrap().is_empty());
    assert_eq!(chosen(&mut cluster, &pinned("web-2", 2)), "a");
}

#[test]
fn a_reservation_for_other_cpus_is_decided_anew() {
    let mut cluster = world();
    chosen(&mut cluster, &pinned("web-1", 3));
    let other = cluster.schedule(&pinned("web-1", 1), START).unwrap();
    assert!(!other.reused);
    assert_eq!(occupied(&cluster), "2");
    cluster.expire(START + TTL);
    assert!(cluster.occupied("a").is_some_and(Occupied::is_empty));
}

#[test]
fn the_host_has_the_last_word_and_who_was_promised_the_same_moves() {
    let mut cluster = world();
    let (one, two) = (pinned("web-1", 2), pinned("web-2", 2));
    chosen(&mut cluster, &one);
    chosen(&mut cluster, &two);
    assert_eq!(cpus(&cluster, "web-2"), Some("4,5".to_owned()));
    let mut said = cluster.pinning(&one.uid).unwrap().clone();
    said.cells[0].pins = vec![(0, 4), (1, 5)];
    cluster.place_claim(&one.uid, &seen(&one, "a", Some(&said)));
    assert_eq!(
        (cpus(&cluster, "web-1"), cpus(&cluster, "web-2")),
        (Some("4,5".to_owned()), Some("2,3".to_owned()))
    );
    assert_eq!(occupied(&cluster), "2-5");
    // A report without a word leaves it at that.
    cluster.place_claim(&one.uid, &seen(&one, "a", None));
    assert_eq!(cpus(&cluster, "web-1"), Some("4,5".to_owned()));
}

#[test]
fn a_new_leader_finds_a_place_for_who_is_there_before_the_host_says_where() {
    let mut cluster = cluster(&[]);
    let one = pinned("web-1", 3);
    // The Instance shows before its host does.
    cluster.place_claim(&one.uid, &seen(&one, "a", None));
    assert_eq!(cpus(&cluster, "web-1"), None);
    cluster.upsert_host(celled("a"));
    assert_eq!(cpus(&cluster, "web-1"), Some("2-4".to_owned()));
    assert!(cluster.dry_run(&pinned("web-2", 2)).is_err());
    assert!(cluster.dry_run(&pinned("web-2", 1)).is_ok());
}

#[test]
fn an_instance_seen_under_its_own_uid_takes_over_from_the_one_of_its_create_request() {
    let mut cluster = world();
    let review = pinned("review", 4);
    chosen(&mut cluster, &review);
    let object = pinned("object", 4);
    cluster.place_claim(&object.uid, &seen(&object, "a", None));
    assert_eq!(cpus(&cluster, "object"), None, "the request still holds all there is");
    cluster.forget(&review.uid);
    assert_eq!(cpus(&cluster, "object"), Some("2-5".to_owned()));
}

#[test]
fn who_waits_for_cpus_or_devices_is_woken_when_they_are_freed() {
    let mut cluster = world();
    let mut gpu = request("gpu-1");
    gpu.demands_mut().devices = vec![PciRequest {
        alias: "gpu".to_owned(),
        count: 1,
        affinity: PciAffinity::Legacy,
    }];
    let another = Request {
        uid: Uid::from("gpu-2"),
        ..gpu.clone()
    };
    let (one, two) = (pinned("web-1", 3), pinned("web-2", 3));
    let plain = request("plain");
    for placed in [&gpu, &one, &plain] {
        chosen(&mut cluster, placed);
    }
    for (leaves, waits) in [(&gpu, &another), (&one, &two)] {
        let refusal = cluster.schedule(waits, START).unwrap_err();
        cluster.take_events();
        let mut waiting = Waiting::default();
        waiting.park(&waits.uid, Cause::refused(waits, &refusal), START);
        assert!(waiting.due(LATER, 9).is_empty());
        cluster.forget(&leaves.uid);
        for event in cluster.take_events() {
            waiting.wake(&event);
        }
        assert_eq!(waiting.due(LATER, 9), std::slice::from_ref(&waits.uid));
        chosen(&mut cluster, waits);
    }
}

#[test]
fn what_is_remembered_of_hosts_follows_every_change() {
    let mut cluster = world();
    let two = pinned("web-2", 2);
    for round in 0..3 {
        let one = pinned(&format!("web-1-{round}"), 3);
        chosen(&mut cluster, &one);
        assert!(cluster.schedule(&two, START).is_err());
        cluster.forget(&one.uid);
        assert_eq!(chosen(&mut cluster, &two), "a");
        cluster.forget(&two.uid);
    }
    // The operator takes the CPUs away, and the host itself, and brings back both.
    cluster.upsert_host(host("a"));
    assert!(cluster.schedule(&two, START).is_err());
    cluster.remove_host("a");
    cluster.upsert_host(host("b"));
    assert!(cluster.schedule(&two, START).is_err());
    cluster.upsert_host(celled("a"));
    assert_eq!(chosen(&mut cluster, &two), "a");
    let nothing = Resources::default();
    cluster.place(&Uid::from("other"), "a", &nothing, None);
    assert_eq!(cpus(&cluster, "web-2"), Some("2,3".to_owned()));
}
