//! The loop of a kind: bounded, patient, and never stopped by one object.

#[allow(dead_code, missing_docs)]
#[path = "../../testkit/tests/widget/mod.rs"]
mod widget;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use kube::{
    ResourceExt,
    runtime::{Controller, watcher},
};
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use virga_runtime::{
    class::{Class, Classify},
    metrics::{self, Outcome, ReconcileMetrics},
    reconcile::{self, Done, Reconcile, Settings},
    watch::{Watch, ready},
};
use virga_testkit::FakeApi;
use widget::{Widget, widget};

#[derive(Debug, thiserror::Error)]
#[error("told to fail")]
struct Told(Class);

impl Classify for Told {
    fn class(&self) -> Class {
        self.0
    }
}

#[derive(Clone, Default)]
struct Seen {
    runs: Arc<Mutex<Vec<(String, Instant)>>>,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

impl Seen {
    fn note(&self, name: String) {
        self.runs.lock().expect("nobody panicked").push((name, Instant::now()));
    }

    fn times(&self, name: &str) -> Vec<Instant> {
        self.runs
            .lock()
            .expect("nobody panicked")
            .iter()
            .filter(|(seen, _)| seen == name)
            .map(|(_, at)| *at)
            .collect()
    }
}

struct Obedient(Seen);

impl Reconcile for Obedient {
    type Kind = Widget;
    type Error = Told;

    fn name(&self) -> &'static str {
        "widget"
    }

    async fn reconcile(&self, object: Arc<Widget>) -> Result<Done, Told> {
        self.0.note(object.name_any());
        let now = self.0.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most_at_once.fetch_max(now, Ordering::SeqCst);
        let order = object.spec.notes.get("order").map(String::as_str);
        if order == Some("work") {
            sleep(Duration::from_secs(10)).await;
        }
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
        match order {
            Some("invalid") => Err(Told(Class::Invalid)),
            Some("waiting") => Err(Told(Class::Waiting)),
            Some("transient") => Err(Told(Class::Transient)),
            Some("panic") => panic!("as told"),
            Some("hang") => std::future::pending().await,
            Some("again") => Ok(Done::unchanged().again_in(Duration::from_secs(7))),
            Some("work") => Ok(Done::changed()),
            _ => Ok(Done::unchanged()),
        }
    }
}

struct Bench {
    api: FakeApi,
    seen: Seen,
    metrics: ReconcileMetrics,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start() -> Bench {
    resting(Duration::ZERO)
}

fn resting(rest: Duration) -> Bench {
    let api = FakeApi::new().with_crd::<Widget>();
    let (seen, stop) = (Seen::default(), CancellationToken::new());
    let metrics = ReconcileMetrics::register(&mut metrics::registry());
    let watch = Watch::<Widget>::all(api.client(), watcher::Config::default());
    let controller = Controller::for_shared_stream(watch.applied(), watch.store());
    tokio::spawn(watch.run(stop.clone()));
    let settings = Settings {
        concurrency: 2,
        rest,
        ..Settings::default()
    };
    let run = reconcile::run(
        Obedient(seen.clone()),
        controller,
        settings,
        metrics.clone(),
        stop.clone(),
    );
    Bench {
        api,
        seen,
        metrics,
        stop,
        task: tokio::spawn(run),
    }
}

impl Bench {
    fn make(&self, name: &str, order: &str) {
        let mut wanted = widget(name);
        wanted.spec.notes.insert("order".into(), order.into());
        self.api.create(&wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_ever_more_rarely_until_it_works() {
    let bench = start();
    bench.make("a", "transient");
    sleep(Duration::from_hours(1)).await;
    let times = bench.seen.times("a");
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (failures, pause) in pauses.iter().enumerate() {
        let whole = Duration::from_secs(1 << failures.min(20)).min(Duration::from_mins(5));
        let slack = Duration::from_millis(10);
        assert!(
            *pause + slack >= whole / 2 && *pause <= whole + slack,
            "{failures}: {pause:?}"
        );
    }
    assert!(pauses.len() >= 15, "{pauses:?}");
    assert_eq!(bench.metrics.errors("widget", Class::Transient), times.len() as u64);

    bench
        .api
        .merge::<Widget>(Some("shop"), "a", json!({"spec": {"notes": {"order": "fine"}}}));
    sleep(Duration::from_secs(1)).await;
    bench
        .api
        .merge::<Widget>(Some("shop"), "a", json!({"spec": {"notes": {"order": "transient"}}}));
    let before = bench.seen.times("a").len();
    sleep(Duration::from_secs(4)).await;
    assert!(
        bench.seen.times("a").len() >= before + 2,
        "after a success the pauses begin anew"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_invalid_waits_for_its_author_and_what_waits_is_looked_at_slowly() {
    let bench = start();
    bench.make("a", "invalid");
    bench.make("b", "waiting");
    sleep(Duration::from_hours(1)).await;
    assert_eq!(bench.seen.times("a").len(), 1);
    let looks = bench.seen.times("b").len();
    assert!((6..=8).contains(&looks), "{looks}");
    assert_eq!(bench.metrics.count("widget", Outcome::Waiting), looks as u64);

    bench
        .api
        .merge::<Widget>(Some("shop"), "a", json!({"spec": {"notes": {"order": "fine"}}}));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.seen.times("a").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_a_hang_of_one_object_does_not_stop_the_others() {
    let bench = start();
    bench.make("a", "panic");
    bench.make("b", "hang");
    sleep(Duration::from_secs(1)).await;
    bench.make("c", "again");
    sleep(Duration::from_secs(305)).await;
    assert!(bench.seen.times("c").len() >= 40, "{}", bench.seen.times("c").len());
    assert!(bench.metrics.errors("widget", Class::Bug) >= 2);
    assert_eq!(
        bench.metrics.errors("widget", Class::Transient),
        1,
        "the hang was cut at its deadline"
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_run_at_once_than_allowed() {
    let bench = start();
    for name in ["a", "b", "c", "d", "e"] {
        bench.make(name, "work");
    }
    sleep(Duration::from_mins(1)).await;
    assert_eq!(bench.seen.most_at_once.load(Ordering::SeqCst), 2);
    assert_eq!(bench.metrics.count("widget", Outcome::Changed), 5);
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_longest_is_next() {
    let bench = start();
    let names: Vec<String> = (0..40).map(|n| format!("w{n}")).collect();
    for name in &names {
        bench.make(name, "work");
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_mins(5)).await;
    let order: Vec<String> = {
        let runs = bench.seen.runs.lock().unwrap();
        runs.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(order, names);
}

#[tokio::test(start_paused = true)]
async fn an_object_is_seen_as_it_is_when_its_turn_comes() {
    let bench = start();
    for name in ["a", "b", "c"] {
        bench.make(name, "work");
        sleep(Duration::from_secs(1)).await;
    }
    // The other two have their turns.
    bench
        .api
        .merge::<Widget>(Some("shop"), "c", json!({"spec": {"notes": {"order": "invalid"}}}));
    sleep(Duration::from_mins(1)).await;
    assert_eq!(bench.metrics.errors("widget", Class::Invalid), 1);
    assert_eq!(bench.seen.times("c").len(), 1);
}

const REST: Duration = Duration::from_secs(1);
/// More than what passes between a change and its turn when nothing holds it back.
const MOMENT: Duration = Duration::from_millis(100);

impl Bench {
    fn change(&self, name: &str, n: usize) {
        let notes = json!({"spec": {"notes": {"n": n.to_string()}}});
        self.api.merge::<Widget>(Some("shop"), name, notes);
    }

    /// When an object had its turns.
    fn turns(&self, name: &str, since: Instant) -> Vec<Duration> {
        let times = self.seen.times(name);
        times.iter().map(|time| *time - since).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_change_is_answered_at_once_and_those_that_follow_together() {
    let bench = resting(REST);
    let made = Instant::now();
    bench.make("a", "fine");
    for n in 0..8 {
        sleep(MOMENT).await;
        bench.change("a", n);
    }
    sleep(REST * 5).await;
    let turns = bench.turns("a", made);
    assert_eq!(turns.len(), 2, "{turns:?}");
    assert!(turns[0] < MOMENT, "{turns:?}");
    assert!(turns[1] >= REST && turns[1] < REST + MOMENT, "{turns:?}");
    let changed = Instant::now();
    bench.change("a", 8);
    sleep(REST * 5).await;
    let turns = bench.turns("a", made);
    assert_eq!(turns.len(), 3, "{turns:?}");
    assert!(turns[2] < changed - made + MOMENT, "it had rested: {turns:?}");
}

#[tokio::test(start_paused = true)]
async fn what_changes_all_the_time_has_its_turns_all_the_same() {
    let bench = resting(REST);
    let made = Instant::now();
    bench.make("a", "fine");
    bench.make("b", "again");
    for n in 0..100 {
        sleep(MOMENT).await;
        bench.change("a", n);
    }
    let turns = bench.turns("a", made);
    assert!((10..=11).contains(&turns.len()), "{turns:?}");
    let pauses: Vec<Duration> = turns.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    assert!(
        pauses.iter().all(|pause| (REST..REST + MOMENT).contains(pause)),
        "{pauses:?}"
    );
    // Who comes again by itself comes when it said.
    let turns = bench.turns("b", made);
    let again = Duration::from_secs(7);
    assert_eq!(turns.len(), 2, "{turns:?}");
    assert!((again..again + MOMENT).contains(&turns[1]), "{turns:?}");
}

#[tokio::test(start_paused = true)]
async fn what_has_begun_is_ended_before_the_loop_stops() {
    let bench = start();
    bench.make("a", "work");
    sleep(Duration::from_secs(1)).await;
    bench.stop.cancel();
    bench.task.await.unwrap();
    assert_eq!(bench.metrics.count("widget", Outcome::Changed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_is_forgotten() {
    let bench = start();
    bench.make("a", "transient");
    sleep(Duration::from_secs(2)).await;
    bench.api.delete::<Widget>(Some("shop"), "a");
    sleep(Duration::from_mins(10)).await;
    let before = bench.seen.times("a").len();
    sleep(Duration::from_mins(10)).await;
    assert_eq!(bench.seen.times("a").len(), before);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_of_the_api_server_when_nothing_changes() {
    let bench = start();
    bench.make("a", "fine");
    bench.api.settle(Duration::from_secs(5)).await;
    let mark = bench.api.mark();
    sleep(Duration::from_hours(2)).await;
    assert!(bench.api.requests_since(mark).is_empty(), "{}", bench.api.story());
}

#[tokio::test(start_paused = true)]
async fn who_depends_on_a_spec_does_not_hear_of_each_status() {
    let api = FakeApi::new().with_crd::<Widget>();
    api.create(&widget("a"));
    let watch = Watch::<Widget>::all(api.client(), watcher::Config::default());
    let mut specs = watch.respecified().map(|widget| widget.name_any()).boxed();
    let (store, stop) = (watch.store(), CancellationToken::new());
    let running = tokio::spawn(watch.run(stop.clone()));
    assert!(ready(&store).await);
    api.merge_status::<Widget>(Some("shop"), "a", json!({"state": "Ready"}));
    api.create(&widget("b"));
    api.merge_status::<Widget>(Some("shop"), "a", json!({"state": "Done"}));
    api.merge::<Widget>(Some("shop"), "a", json!({"spec": {"notes": {"order": "work"}}}));
    api.delete::<Widget>(Some("shop"), "b");
    api.create(&widget("b"));
    sleep(Duration::from_secs(1)).await;
    stop.cancel();
    running.await.unwrap();
    let mut heard = Vec::new();
    while let Some(name) = specs.next().await {
        heard.push(name);
    }
    assert_eq!(heard, ["a", "b", "a", "b", "b"]);
}
