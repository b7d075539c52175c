//! The async face: order, time-outs, replaced threads, bounds.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; clippy only knows that of functions marked as tests"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use uuid::Uuid;
use virga_hypervisor::{Calls, CallsLimits, CallsLoad, Error, Fake, Hypervisor, Kind, Operation, Result};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);

fn calls(limits: CallsLimits) -> (Fake, Calls) {
    let fake = Fake::new();
    (fake.clone(), Calls::new(Arc::new(fake), limits))
}

fn limits(threads: usize, replacements: usize) -> CallsLimits {
    CallsLimits {
        threads,
        replacements,
        ..CallsLimits::default()
    }
}

fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

async fn until(calls: &Calls, what: impl Fn(CallsLoad) -> bool) {
    let wait = async {
        while !what(calls.load()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, wait)
        .await
        .expect("the load came to that in time");
}

#[tokio::test]
async fn a_call_gives_back_what_the_hypervisor_says() {
    let (_fake, calls) = calls(CallsLimits::default());
    assert_eq!(calls.host(LONG, Hypervisor::facts).await.unwrap().hostname, "fake");
    let error = calls.domain(uuid(1), LONG, |h| h.start(uuid(1))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn calls_for_one_domain_run_one_after_the_other_in_order() {
    let (_fake, calls) = calls(limits(4, 0));
    let (order, running) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for n in 0..10 {
        let (order, running, calls) = (Arc::clone(&order), Arc::clone(&running), calls.clone());
        tasks.push(tokio::spawn(async move {
            calls
                .domain(uuid(1), LONG, move |_| {
                    assert_eq!(
                        running.fetch_add(1, Ordering::SeqCst),
                        0,
                        "two calls for one domain at once"
                    );
                    order.lock().unwrap().push(n);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                })
                .await
        }));
        // So that the tasks come to their place in the queue in this order.
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stuck_domain_times_out_and_holds_up_nobody_else() {
    let (fake, calls) = calls(limits(1, 1));
    let hold = fake.hold(Operation::Start);
    let error = calls.domain(uuid(1), SHORT, |h| h.start(uuid(1))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    assert_eq!(
        calls.load(),
        CallsLoad {
            queued: 0,
            running: 1,
            stuck: 1
        }
    );
    // The only thread is stuck, and was replaced.
    calls.host(LONG, Hypervisor::facts).await.unwrap();
    assert_eq!(
        calls
            .domain(uuid(2), LONG, |h| h.domain(uuid(2)))
            .await
            .unwrap_err()
            .kind(),
        Kind::NotFound
    );
    // The stuck domain itself stays blocked, within the caller's time.
    let error = calls.domain(uuid(1), SHORT, |h| h.domain(uuid(1))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    assert_eq!(
        calls.load(),
        CallsLoad {
            queued: 0,
            running: 1,
            stuck: 1
        }
    );
    drop(hold);
    until(&calls, |load| load.stuck == 0 && load.running == 0).await;
    assert_eq!(
        calls
            .domain(uuid(1), LONG, |h| h.domain(uuid(1)))
            .await
            .unwrap_err()
            .kind(),
        Kind::NotFound
    );
}

#[tokio::test]
async fn without_a_thread_left_calls_fail_at_once_and_recover() {
    let (fake, calls) = calls(limits(1, 1));
    let hold = fake.hold(Operation::Any);
    for n in 0..2 {
        let error = calls
            .domain(uuid(n), SHORT, move |h| h.domain(uuid(n)))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
    }
    let error = calls.host(LONG, Hypervisor::facts).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert_eq!(
        calls.load(),
        CallsLoad {
            queued: 0,
            running: 2,
            stuck: 2
        }
    );
    drop(hold);
    until(&calls, |load| load.stuck == 0).await;
    calls.host(LONG, Hypervisor::facts).await.unwrap();
}

#[tokio::test]
async fn a_waiting_call_is_taken_back_when_its_caller_goes() {
    let (fake, calls) = calls(limits(1, 0));
    let hold = fake.hold(Operation::Start);
    let started = tokio::spawn({
        let calls = calls.clone();
        async move { calls.domain(uuid(1), LONG, |h| h.start(uuid(1))).await }
    });
    until(&calls, |load| load.running == 1).await;
    for lane in [Some(uuid(1)), Some(uuid(2)), None] {
        let never = |_: &dyn Hypervisor| -> Result<()> { panic!("a call that was taken back") };
        let waiting = tokio::spawn({
            let calls = calls.clone();
            async move {
                match lane {
                    Some(lane) => calls.domain(lane, LONG, never).await,
                    None => calls.host(LONG, never).await,
                }
            }
        });
        until(&calls, |load| load.queued == 1).await;
        waiting.abort();
        until(&calls, |load| load.queued == 0).await;
    }
    drop(hold);
    assert_eq!(started.await.unwrap().unwrap_err().kind(), Kind::NotFound);
    calls.host(LONG, Hypervisor::facts).await.unwrap();
}

#[tokio::test]
async fn a_call_whose_future_was_dropped_counts_as_stuck_when_its_time_is_up() {
    let (fake, calls) = calls(limits(1, 1));
    let hold = fake.hold(Operation::Start);
    let dropped = tokio::spawn({
        let calls = calls.clone();
        async move { calls.domain(uuid(1), SHORT, |h| h.start(uuid(1))).await }
    });
    until(&calls, |load| load.running == 1).await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    assert_eq!(calls.load().stuck, 0);
    // A later call finds that the time is up and has the thread replaced.
    let replaced = async { while calls.host(SHORT, Hypervisor::facts).await.is_err() {} };
    tokio::time::timeout(LONG, replaced)
        .await
        .expect("the thread is replaced");
    assert_eq!(calls.load().stuck, 1);
    drop(hold);
    until(&calls, |load| load.stuck == 0).await;
}

#[tokio::test]
async fn queues_have_bounds() {
    let (fake, calls) = calls(CallsLimits {
        threads: 1,
        changes: 1,
        replacements: 0,
        queued: 3,
        queued_per_object: 2,
        long: 0,
        guests: 0,
    });
    let hold = fake.hold(Operation::Domain);
    let mut tasks = Vec::new();
    let mut spawn = |n: u128, expected: usize| {
        let calls = calls.clone();
        tasks.push(tokio::spawn(async move {
            calls.domain(uuid(n), LONG, move |h| h.domain(uuid(n))).await
        }));
        expected
    };
    for (n, queued) in [(1, 0), (1, 1), (1, 2), (2, 3)] {
        let expected = spawn(n, queued);
        until(&calls, |load| load.running == 1 && load.queued == expected).await;
    }
    let error = calls.domain(uuid(3), LONG, |h| h.domain(uuid(3))).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().contains("too many calls wait")),
        (Kind::Busy, true)
    );
    if let Some(last) = tasks.pop() {
        last.abort();
    }
    until(&calls, |load| load.queued == 2).await;
    let error = calls.domain(uuid(1), LONG, |h| h.domain(uuid(1))).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().contains("for this object")),
        (Kind::Busy, true)
    );
    drop(hold);
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap_err().kind(), Kind::NotFound);
    }
}

#[tokio::test]
async fn a_call_that_panics_fails_and_the_thread_goes_on() {
    let (_fake, calls) = calls(limits(1, 0));
    let error = calls
        .domain(uuid(1), LONG, |_| -> Result<()> { panic!("for the test") })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    calls.domain(uuid(1), LONG, |_| Ok(())).await.unwrap();
    until(&calls, |load| {
        load == CallsLoad {
            queued: 0,
            running: 0,
            stuck: 0,
        }
    })
    .await;
}

#[tokio::test]
async fn a_slow_hypervisor_is_used_in_parallel_by_different_domains() {
    let (_fake, calls) = calls(limits(3, 0));
    let (meet, meetings) = mpsc::channel();
    let barrier = Arc::new(std::sync::Barrier::new(3));
    let mut tasks = Vec::new();
    for n in 0..3 {
        let (calls, barrier, meet) = (calls.clone(), Arc::clone(&barrier), meet.clone());
        tasks.push(tokio::spawn(async move {
            let call = move |_: &dyn Hypervisor| {
                barrier.wait();
                meet.send(n).map_err(|_| Error::NotFound {
                    what: "the test".to_owned(),
                })
            };
            calls.domain(uuid(n), LONG, call).await
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(meetings.try_iter().count(), 3);
}

#[tokio::test]
async fn a_call_that_takes_long_keeps_nobody_else_waiting_and_there_are_few_of_them() {
    let (fake, calls) = calls(CallsLimits {
        long: 1,
        ..limits(1, 1)
    });
    let hold = fake.hold(Operation::Save);
    let saving = tokio::spawn({
        let calls = calls.clone();
        async move { calls.long(uuid(1), LONG, |h| h.save(uuid(1))).await }
    });
    until(&calls, |load| load.running == 1).await;
    let facts = calls.host(LONG, Hypervisor::facts).await;
    assert!(facts.is_ok(), "{facts:?}");
    let one_more = calls.long(uuid(2), LONG, |h| h.save(uuid(2))).await.unwrap_err();
    assert_eq!(one_more.kind(), Kind::Busy);
    drop(hold);
    assert!(saving.await.is_ok());
    let next = calls.long(uuid(2), LONG, |h| h.save(uuid(2))).await.unwrap_err();
    assert_eq!(next.kind(), Kind::NotFound, "the place was given back");
}

#[tokio::test]
async fn a_guest_that_is_asked_keeps_no_other_call_waiting_and_few_are_asked_at_once() {
    let (fake, calls) = calls(CallsLimits {
        threads: 1,
        guests: 1,
        ..CallsLimits::default()
    });
    let hold = fake.hold(Operation::GuestInfo);
    let ask = |n: u128| {
        let calls = calls.clone();
        tokio::spawn(async move { calls.guest(uuid(n), SHORT, move |h| h.guest_info(uuid(n))).await })
    };
    let first = ask(1);
    until(&calls, |load| load.running == 1).await;
    // The same domain's other calls, and another guest's turn.
    let seen = calls.domain(uuid(1), LONG, move |h| h.domain(uuid(1))).await;
    assert_eq!(seen.unwrap_err().kind(), virga_hypervisor::Kind::NotFound);
    let second = ask(2).await.unwrap().unwrap_err();
    assert_eq!(second.kind(), virga_hypervisor::Kind::Busy, "{second}");
    assert_eq!(
        first.await.unwrap().unwrap_err().kind(),
        virga_hypervisor::Kind::Timeout
    );
    drop(hold);
    until(&calls, |load| load.stuck == 0).await;
    let third = ask(3).await.unwrap().unwrap_err();
    assert_eq!(third.kind(), virga_hypervisor::Kind::NotFound, "{third}");
}

#[tokio::test]
async fn a_look_does_not_wait_until_the_guests_of_others_have_started() {
    let (fake, calls) = calls(CallsLimits {
        changes: 2,
        ..limits(3, 0)
    });
    let hold = fake.hold(Operation::Start);
    let start = |n: u128| {
        let calls = calls.clone();
        tokio::spawn(async move { calls.domain(uuid(n), LONG, move |h| h.start(uuid(n))).await })
    };
    let starts = [start(1), start(2), start(3)];
    let two_start = |load: CallsLoad| load.running == 2 && load.queued == 1;
    until(&calls, two_start).await;
    let look = |n: u128| calls.look(uuid(n), LONG, move |h| h.domain(uuid(n)));
    assert_eq!(look(4).await.unwrap_err().kind(), Kind::NotFound);
    until(&calls, two_start).await;
    drop(hold);
    for started in starts {
        assert_eq!(started.await.unwrap().unwrap_err().kind(), Kind::NotFound);
    }
}

#[tokio::test]
async fn a_look_behind_a_change_that_was_taken_back_is_made() {
    let (fake, calls) = calls(CallsLimits {
        changes: 1,
        ..limits(2, 0)
    });
    let hold = fake.hold(Operation::Start);
    let start = |n: u128| {
        let calls = calls.clone();
        tokio::spawn(async move { calls.domain(uuid(n), LONG, move |h| h.start(uuid(n))).await })
    };
    let started = start(1);
    until(&calls, |load| load.running == 1).await;
    let waits = start(2);
    until(&calls, |load| load.queued == 1).await;
    let look = tokio::spawn({
        let calls = calls.clone();
        async move { calls.look(uuid(2), LONG, |h| h.domain(uuid(2))).await }
    });
    until(&calls, |load| load.queued == 2).await;
    waits.abort();
    assert_eq!(look.await.unwrap().unwrap_err().kind(), Kind::NotFound);
    drop(hold);
    assert_eq!(started.await.unwrap().unwrap_err().kind(), Kind::NotFound);
}
