//! What `explain` says of an Instance, against an in-process API server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use k8s_openapi::api::core::v1::Namespace;
use virga_cli::{
    explain::{Explained, explain, print},
    flags::Output,
    profile,
};
use virga_controller::{fixtures, scheduling::HostDefaults};
use virga_crds::{Bytes, HostAggregate, HostAggregateSpec, Hypervisor, Resources, Scheduling};
use virga_scheduler::Verdict;
use virga_testkit::{FakeApi, Fault};

async fn asked(api: &FakeApi) -> Explained {
    explain(
        &api.client(),
        "shop",
        "web",
        &profile::standard(),
        &HostDefaults::default(),
    )
    .await
    .unwrap()
}

fn said(explained: &Explained) -> Vec<String> {
    let hosts = explained.hosts.iter().map(|said| match &said.verdict.verdict {
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
        explained.unread.is_empty() && explained.obstacles.is_empty(),
        "{explained:?}"
    );
    let counts: Vec<_> = explained
        .rejections
        .iter()
        .map(|rejection| (rejection.filter, rejection.count))
        .collect();
    assert_eq!(counts, [("ComputeFilter", 1), ("AvailabilityZoneFilter", 1)]);
    assert_eq!(explained.hosts[0].usage.memory.used, 15 << 30);
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
    assert_eq!(explained.hosts[1].usage.instances, 0, "without itself");
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
    let unread: Vec<&str> = explained.unread.iter().map(|unread| unread.what.as_str()).collect();
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
    assert!(explained.hosts.is_empty());
    assert_eq!(explained.obstacles[0].field, "spec.flavor");
    assert_eq!(
        explained.unread.len(),
        2,
        "aggregates are not asked for in vain: {:?}",
        explained.unread
    );
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_not_there_is_an_error() {
    let api = shop();
    let rules = profile::standard();
    let error = explain(&api.client(), "shop", "nobody", &rules, &HostDefaults::default())
        .await
        .unwrap_err();
    let error = error.to_string();
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
