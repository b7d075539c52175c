//! What `explain` says of an Instance, against an in-process API server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Namespace},
};
use virga_cli::{
    explain::{Explained, Now, Question, Record, System, explain, print},
    flags::Output,
    profile,
};
use virga_controller::{
    fixtures,
    scheduling::{HostDefaults, record::Recorded},
};
use virga_crds::{Bytes, HostAggregate, HostAggregateSpec, Hypervisor, Resources, Scheduling};
use virga_scheduler::Verdict;
use virga_testkit::{FakeApi, Fault};

/// What is said of `web`, and of what would be decided now by the standard profile.
async fn asked(api: &FakeApi) -> Explained {
    asked_with(api, true, Some(&profile::standard())).await
}

async fn asked_with(api: &FakeApi, now: bool, profile: Option<&profile::Named>) -> Explained {
    let system = system();
    let question = Question {
        namespace: "shop",
        name: "web",
        now,
        system: &system,
        profile,
        defaults: HostDefaults::default(),
    };
    explain(&api.client(), &question).await.unwrap()
}

fn system() -> System {
    System {
        namespace: "virga-system".into(),
        port: 9091,
    }
}

fn now(explained: &Explained) -> &Now {
    explained.now.as_ref().unwrap()
}

fn said(explained: &Explained) -> Vec<String> {
    let hosts = now(explained).hosts.iter().map(|said| match &said.verdict.verdict {
        Verdict::Passed { weight, .. } => format!("{} passes with {weight:.1}", said.verdict.host),
        Verdict::Rejected { filter, text, note } => format!("{}: {filter} {text} {note}", said.verdict.host),
    });
    hosts.map(|line| line.trim().to_owned()).collect()
}

fn printed(explained: &Explained, host: Option<&str>, output: Output) -> String {
    let mut out = Vec::new();
    print(explained.clone(), host, output, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn in_zone(name: &str, zone: &str, hosts: &[&str]) -> HostAggregate {
    let spec = HostAggregateSpec {
        hypervisors: Some(hosts.iter().map(ToString::to_string).collect()),
        availability_zone: Some(zone.into()),
        ..HostAggregateSpec::default()
    };
    HostAggregate::new(name, spec)
}

/// Four hosts: `a` is full but for 1 GiB of memory, `b` is empty, `c` is closed, and `d` is in another zone. The Instance
/// `web` asks for zone az1.
fn shop() -> FakeApi {
    let api = fixtures::api();
    let mut closed = fixtures::hypervisor("c");
    closed.spec.scheduling = Scheduling::Cordoned;
    closed.spec.reason = Some("new disks".into());
    for host in [
        fixtures::hypervisor("a"),
        fixtures::hypervisor("b"),
        closed,
        fixtures::hypervisor("d"),
    ] {
        put(&api, &host);
    }
    put(&api, &in_zone("east", "az1", &["a", "b", "c"]));
    put(&api, &fixtures::flavor("m1.small"));
    let mut large = fixtures::flavor("m1.large");
    large.spec.memory = Bytes::gib(15);
    put(&api, &large);
    put(&api, &fixtures::image("debian"));
    let mut filler = fixtures::instance("filler");
    filler.spec.flavor = "m1.large".into();
    filler.spec.node_name = Some("a".into());
    put(&api, &filler);
    let mut web = fixtures::instance("web");
    web.spec.placement = Some(virga_crds::Placement {
        availability_zone: Some("az1".into()),
        ..virga_crds::Placement::default()
    });
    put(&api, &web);
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("shop".into());
    put(&api, &namespace);
    api
}

fn put<K>(api: &FakeApi, object: &K)
where
    K: kube::Resource<DynamicType = ()> + serde::Serialize + serde::de::DeserializeOwned,
{
    drop(api.create(object));
}

#[tokio::test(start_paused = true)]
async fn every_host_says_whether_it_would_take_the_instance_and_why_not() {
    let api = shop();
    let explained = asked(&api).await;
    assert_eq!(
        said(&explained),
        [
            "a passes with 2.0",
            "b passes with 3.0",
            "c: ComputeFilter disabled new disks",
            "d: AvailabilityZoneFilter",
        ]
    );
    assert!(
        now(&explained).unread.is_empty() && now(&explained).obstacles.is_empty(),
        "{explained:?}"
    );
    let counts: Vec<_> = now(&explained)
        .rejections
        .iter()
        .map(|rejection| (rejection.filter, rejection.count))
        .collect();
    assert_eq!(counts, [("ComputeFilter", 1), ("AvailabilityZoneFilter", 1)]);
    assert_eq!(now(&explained).hosts[0].usage.memory.used, 15 << 30);
    assert!(
        api.verbs_used()
            .values()
            .flatten()
            .all(|verb| ["get", "list"].contains(verb)),
        "nothing is written"
    );
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_placed_is_asked_for_as_if_it_were_not() {
    let api = shop();
    api.merge::<virga_crds::Instance>(Some("shop"), "web", serde_json::json!({"spec": {"nodeName": "b"}}));
    let explained = asked(&api).await;
    assert_eq!(explained.host.as_deref(), Some("b"));
    assert_eq!(said(&explained)[..2], ["a passes with 2.0", "b passes with 3.0"]);
    assert_eq!(now(&explained).hosts[1].usage.instances, 0, "without itself");
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_read_is_named_and_hosts_are_taken_at_their_word() {
    let api = shop();
    let mut told = Hypervisor::clone(&api.read::<Hypervisor>(None, "b").unwrap());
    told.status.get_or_insert_default().allocated = Some(Resources {
        vcpus: 2,
        memory: Bytes::gib(16),
        disk: Bytes::gib(1),
    });
    api.merge_status::<Hypervisor>(None, "b", serde_json::json!(told.status));
    api.inject(Fault::status(403).resource("instances").verb(virga_testkit::Verb::List));
    api.inject(Fault::status(403).resource("namespaces"));
    let explained = asked(&api).await;
    assert_eq!(said(&explained)[0], "a passes with 0.0", "nobody says what is on a");
    assert!(
        said(&explained)[1].starts_with("b: RamFilter"),
        "{:?}",
        said(&explained)
    );
    let unread: Vec<&str> = now(&explained)
        .unread
        .iter()
        .map(|unread| unread.what.as_str())
        .collect();
    assert_eq!(
        unread,
        [
            "instances of other namespaces",
            "instances of namespace shop",
            "Namespace shop"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn without_any_host_to_ask_the_instance_s_own_status_is_left() {
    let api = shop();
    for kind in ["hypervisors", "hostaggregates", "flavors"] {
        api.inject(Fault::status(403).resource(kind));
    }
    let explained = asked(&api).await;
    let now = now(&explained);
    assert!(now.hosts.is_empty());
    assert_eq!(now.obstacles[0].field, "spec.flavor");
    assert_eq!(
        now.unread.len(),
        2,
        "aggregates are not asked for in vain: {:?}",
        now.unread
    );
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_not_there_is_an_error() {
    let api = shop();
    let system = system();
    let question = Question {
        namespace: "shop",
        name: "nobody",
        now: false,
        system: &system,
        profile: None,
        defaults: HostDefaults::default(),
    };
    let error = explain(&api.client(), &question).await.unwrap_err().to_string();
    assert!(
        error.starts_with("reading Instance shop/nobody: ") && error.contains("not found"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn people_read_a_table_or_a_host_s_reasons_in_words() {
    let api = shop();
    let told = serde_json::json!({"conditions": [{
        "type": "Scheduled", "status": "False", "reason": "NoValidHost", "message": "0/4 hosts: \u{1b}[31m",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]});
    api.merge_status::<virga_crds::Instance>(Some("shop"), "web", told);
    let explained = asked(&api).await;
    insta::assert_snapshot!("table", printed(&explained, None, Output::Table));
    insta::assert_snapshot!(
        "host_that_is_not_the_best",
        printed(&explained, Some("a"), Output::Table)
    );
    insta::assert_snapshot!("host_that_refuses", printed(&explained, Some("c"), Output::Table));
    let error = print(explained, Some("bb"), Output::Table, &mut Vec::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "asking for \"bb\": there is no such Hypervisor; did you mean b?"
    );
}

/// The Instance's status as its agent has taken the decision over.
fn told(api: &FakeApi) {
    let status = serde_json::json!({"scheduling": {
        "decidedAt": "2026-01-01T00:00:00Z", "decidedBy": "Queue", "hosts": 4, "survivors": 2,
        "rejections": [{"filter": "ComputeFilter", "hosts": 1}, {"filter": "AvailabilityZoneFilter", "hosts": 1}],
        "weights": ["3", "1.9844"], "rank": 1, "reservationAgeMilliseconds": 12,
    }});
    api.merge_status::<virga_crds::Instance>(Some("shop"), "web", status);
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_is_told_from_the_status_when_the_leader_is_out_of_reach() {
    let api = shop();
    told(&api);
    let explained = asked_with(&api, false, None).await;
    assert!(
        matches!(explained.found.recorded, Some(Record::Status(_))),
        "{explained:?}"
    );
    assert!(explained.now.is_none(), "nobody asked for it");
    insta::assert_snapshot!("recorded_in_the_status", printed(&explained, None, Output::Table));
    let explained = asked(&api).await;
    insta::assert_snapshot!("recorded_and_now", printed(&explained, Some("b"), Output::Table));
    let json: serde_json::Value = serde_json::from_str(&printed(&explained, None, Output::Json)).unwrap();
    assert_eq!(json["recorded"]["from"], "Status");
    assert_eq!(
        json["recorded"]["decision"]["weights"],
        serde_json::json!(["3", "1.9844"])
    );
    assert_eq!(json["notFromLeader"], "nobody leads in namespace virga-system");
    assert_eq!(json["hosts"].as_array().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_the_leader_remembers_is_told_with_hosts_and_operators_words() {
    let api = shop();
    let mut explained = asked_with(&api, false, None).await;
    explained.now = None;
    let mut kept: Recorded = serde_json::from_value(serde_json::json!({
        "namespace": "shop", "name": "web", "uid": "u", "decidedAt": "2026-01-01T00:00:00Z", "decidedBy": "Admission",
        "host": "b", "hosts": 4, "survivors": 2,
        "rejections": [{"filter": "ComputeFilter", "count": 1}, {"filter": "AvailabilityZoneFilter", "count": 1}],
        "best": [
            {"host": "b", "weight": 3.0, "parts": [
                {"weigher": "RAMWeigher", "measure": 1.0, "normalised": 1.0, "multiplier": 2.0},
                {"weigher": "CPUWeigher", "measure": 1.0, "normalised": 1.0, "multiplier": 1.0},
                {"weigher": "DiskWeigher", "measure": 0.0, "normalised": 0.0, "multiplier": 1.0},
            ]},
            {"host": "a", "weight": 0.125, "parts": []},
        ],
        "reservation": {"state": "Bound", "ageMilliseconds": 31},
    }))
    .unwrap();
    explained.found.not_from_leader = None;
    explained.found.recorded = Some(Record::Leader(kept.clone()));
    insta::assert_snapshot!("recorded_by_the_leader", printed(&explained, None, Output::Table));
    kept.host = None;
    kept.reservation = None;
    kept.best.clear();
    kept.rejections = serde_json::from_value(serde_json::json!([
        {"filter": "ComputeFilter", "count": 3, "details": [
            {"text": "disabled", "note": "new\u{1b}[2J disks", "count": 2}, {"text": "not responding", "count": 1},
        ]},
        {"filter": "RamFilter", "count": 1, "details": [{"text": "larger than the host", "count": 1}]},
    ]))
    .unwrap();
    explained.found.recorded = Some(Record::Leader(kept));
    insta::assert_snapshot!("refused_by_the_leader", printed(&explained, None, Output::Table));
}

#[tokio::test(start_paused = true)]
async fn whoever_may_not_ask_the_leader_hears_which_right_is_missing() {
    let api = shop();
    told(&api);
    api.inject(Fault::status(403).resource("leases").times(1));
    let said = |explained: Explained| explained.found.not_from_leader.unwrap();
    assert_eq!(
        said(asked_with(&api, false, None).await),
        "you may not read the Lease that says who leads"
    );
    let mut lease = Lease::default();
    lease.metadata.name = Some("leader.virga.dev".into());
    lease.metadata.namespace = Some("virga-system".into());
    lease.spec.get_or_insert_default().holder_identity = Some("virga-controller-1-00c0ffee".into());
    put(&api, &lease);
    let words = said(asked_with(&api, false, None).await);
    assert!(words.starts_with("forwarding a port to the leader's Pod: "), "{words}");
}

#[tokio::test(start_paused = true)]
async fn hosts_are_asked_by_the_profile_of_the_release_where_it_can_be_known() {
    let api = shop().with::<ConfigMap>();
    let assumed = asked_with(&api, true, None).await;
    assert_eq!(now(&assumed).profile, "standard");
    let unread = &now(&assumed).unread[0];
    assert_eq!(
        (unread.what.as_str(), unread.why.as_str(), unread.so),
        (
            "ConfigMap virga-system/virga-scheduler",
            "the cluster does not have it",
            "the standard profile is assumed"
        )
    );
    let mut map = ConfigMap::default();
    map.metadata.name = Some("virga-scheduler".into());
    map.metadata.namespace = Some("virga-system".into());
    map.data = Some([("profile.yaml".to_owned(), "strategy: Pack\n".to_owned())].into());
    put(&api, &map);
    let known = asked_with(&api, true, None).await;
    assert_eq!(now(&known).profile, "of ConfigMap virga-system/virga-scheduler");
    assert!(now(&known).unread.is_empty());
    assert_eq!(said(&known)[..2], ["a passes with -2.0", "b passes with -3.0"]);

    api.merge::<ConfigMap>(
        Some("virga-system"),
        "virga-scheduler",
        serde_json::json!({"data": {"profile.yaml": "filters: [HamFilter]"}}),
    );
    let wrong = asked_with(&api, true, None).await;
    let why = &now(&wrong).unread[0].why;
    assert!(why.contains("can't use it") && why.contains("HamFilter"), "{why}");
    api.inject(Fault::status(403).resource("configmaps"));
    assert_eq!(
        now(&asked_with(&api, true, None).await).unread[0].why,
        "you may not read it"
    );
}

#[tokio::test(start_paused = true)]
async fn programs_get_the_same() {
    let explained = asked(&shop()).await;
    let json: serde_json::Value = serde_json::from_str(&printed(&explained, None, Output::Json)).unwrap();
    assert_eq!(json["hosts"].as_array().unwrap().len(), 4);
    let json: serde_json::Value = serde_json::from_str(&printed(&explained, Some("c"), Output::Json)).unwrap();
    assert_eq!(json["hosts"].as_array().unwrap().len(), 1);
    assert_eq!(json["hosts"][0]["host"], "c");
    assert_eq!(json["hosts"][0]["verdict"]["rejected"]["filter"], "ComputeFilter");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_way_is_told_with_what_could_not_be_read() {
    let api = shop();
    api.inject(Fault::status(403).resource("hypervisors"));
    api.delete::<virga_crds::Flavor>(None, "m1.small");
    let explained = asked(&api).await;
    insta::assert_snapshot!("obstacles", printed(&explained, Some("a"), Output::Table));
}
