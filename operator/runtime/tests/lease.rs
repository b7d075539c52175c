//! Two processes want to lead. Never do both, whatever the API server does.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use virga_runtime::lease::{self, Ended, Leadership, Options};
use virga_testkit::{FakeApi, Fault, Verb};

struct Claimant {
    leadership: Leadership,
    stop: CancellationToken,
    task: JoinHandle<Ended>,
}

fn options(identity: &str) -> Options {
    Options {
        duration: Duration::from_secs(6),
        grace: Duration::from_secs(2),
        interval: Duration::from_secs(1),
        call_timeout: Duration::from_secs(1),
        ..Options::new("virga-system", "virga-controller", identity)
    }
}

fn stand(api: &FakeApi, identity: &str) -> Claimant {
    let clock = Arc::new(api.clock().reader());
    let (candidate, leadership) = lease::stand(api.client_as(identity), clock, options(identity));
    let stop = CancellationToken::new();
    Claimant {
        leadership,
        task: tokio::spawn(candidate.run(stop.clone())),
        stop,
    }
}

fn lease(api: &FakeApi) -> Lease {
    api.read(Some("virga-system"), "virga-controller")
        .expect("the lease is there")
}

fn holder(api: &FakeApi) -> String {
    let spec = lease(api).spec.expect("a lease has a spec");
    spec.holder_identity.expect("the lease has had a holder")
}

/// Lets time pass in small steps and watches both.
async fn never_both(a: &Leadership, b: &Leadership, during: Duration) {
    let end = Instant::now() + during;
    while Instant::now() < end {
        assert!(!(a.is_leader() && b.is_leader()), "two leaders");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_the_other_waits() {
    let api = FakeApi::new();
    let a = stand(&api, "a");
    a.leadership.acquired().await;
    let b = stand(&api, "b");
    never_both(&a.leadership, &b.leadership, Duration::from_mins(1)).await;
    assert!(a.leadership.is_leader() && !b.leadership.is_leader());
    assert_eq!(b.leadership.holder().as_deref(), Some("a"));
    assert_eq!(lease(&api).spec.unwrap().lease_transitions, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_hands_over_at_once() {
    let api = FakeApi::new();
    let a = stand(&api, "a");
    a.leadership.acquired().await;
    let b = stand(&api, "b");
    sleep(Duration::from_secs(3)).await;
    a.stop.cancel();
    assert_eq!(a.task.await.unwrap(), Ended::Stopped);
    a.leadership.lost().await;
    let began = Instant::now();
    b.leadership.acquired().await;
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(b.leadership.transitions(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_leaders_lease_is_taken_after_its_duration_by_the_waiters_own_clock() {
    let api = FakeApi::new();
    let a = stand(&api, "a");
    a.leadership.acquired().await;
    a.task.abort();
    // Whatever the wall clocks say.
    api.clock().jump(jiff::SignedDuration::from_hours(-5));
    let began = Instant::now();
    let b = stand(&api, "b");
    b.leadership.acquired().await;
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(6) && took <= Duration::from_secs(8),
        "{took:?}"
    );
    a.leadership.lost().await;
}

/// Recorded failure of another implementation: the robber's write arrives after a new leader has come.
#[tokio::test(start_paused = true)]
async fn a_slow_take_over_does_not_rob_the_one_who_was_faster() {
    let api = FakeApi::new();
    let dead = stand(&api, "dead");
    dead.leadership.acquired().await;
    dead.task.abort();

    // B will try to take the expired lease, but its write is on its way for 320 ms.
    api.inject(
        Fault::delay(Duration::from_millis(320))
            .user("b")
            .verb(Verb::Update)
            .times(1),
    );
    let b = stand(&api, "b");
    let a = stand(&api, "a");
    never_both(&a.leadership, &b.leadership, Duration::from_secs(30)).await;
    assert!(a.leadership.is_leader(), "{}", api.story());
    assert_eq!(holder(&api), "a");
    let lost: Vec<u16> = api
        .log()
        .iter()
        .filter(|r| r.user == "b" && r.verb == Verb::Update)
        .map(|r| r.code)
        .collect();
    assert_eq!(lost, [409], "the late write was refused");
}

/// Recorded failure of another implementation: a leader that cannot reach the API server goes on to lead.
#[tokio::test(start_paused = true)]
async fn a_leader_stops_in_time_when_the_api_server_dies() {
    for fault in [Fault::status(500), Fault::hang(), Fault::disconnect()] {
        let api = FakeApi::new();
        let a = stand(&api, "a");
        a.leadership.acquired().await;
        sleep(Duration::from_millis(2500)).await;
        api.inject(fault.user("a"));
        // Renewed half a second ago, it leads for four: 3.5 s are left.
        let died = Instant::now();
        a.leadership.lost().await;
        assert!(!a.leadership.is_leader());
        assert!(died.elapsed() <= Duration::from_millis(3500), "{:?}", died.elapsed());
        assert_eq!(a.task.await.unwrap(), Ended::Lost);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_leader_has_stopped_before_the_next_one_begins() {
    let api = FakeApi::new();
    let a = stand(&api, "a");
    a.leadership.acquired().await;
    let b = stand(&api, "b");
    sleep(Duration::from_secs(3)).await;
    api.inject(Fault::hang().user("a"));
    never_both(&a.leadership, &b.leadership, Duration::from_secs(20)).await;
    assert!(b.leadership.is_leader());
    assert_eq!(a.task.await.unwrap(), Ended::Lost);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_commits_without_an_answer_does_not_end_leadership() {
    let api = FakeApi::new();
    let a = stand(&api, "a");
    a.leadership.acquired().await;
    for fault in [Fault::commit_then_status(500), Fault::commit_then_hang()] {
        api.inject(fault.verb(Verb::Update).times(1));
        sleep(Duration::from_secs(10)).await;
        assert!(a.leadership.is_leader(), "{}", api.story());
    }
    assert_eq!(lease(&api).spec.unwrap().lease_transitions, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_commits_without_an_answer_still_leads() {
    let api = FakeApi::new();
    api.inject(Fault::commit_then_status(504).verb(Verb::Create).times(1));
    let a = stand(&api, "a");
    let began = Instant::now();
    a.leadership.acquired().await;
    assert!(began.elapsed() <= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_was_taken_by_hand_stops() {
    let api = FakeApi::new();
    let a = stand(&api, "a");
    a.leadership.acquired().await;
    api.merge::<Lease>(
        Some("virga-system"),
        "virga-controller",
        serde_json::json!({"spec": {"holderIdentity": "x"}}),
    );
    a.leadership.lost().await;
    assert_eq!(a.task.await.unwrap(), Ended::Lost);
    assert_eq!(holder(&api), "x");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_never_led_can_be_stopped() {
    let api = FakeApi::new();
    let a = stand(&api, "a");
    a.leadership.acquired().await;
    let b = stand(&api, "b");
    sleep(Duration::from_secs(1)).await;
    b.stop.cancel();
    assert_eq!(b.task.await.unwrap(), Ended::Stopped);
    b.leadership.lost().await;
    assert_eq!(holder(&api), "a");
}
