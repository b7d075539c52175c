//! No host is promised twice: by admission, under load, after a change of leaders.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, stream};
use kube::ResourceExt;
use serde_json::json;
use virga_controller::scheduling::Decision;
use virga_crds::{Instance, conditions::Reason};

use crate::harness::{
    Replica, api, bound, create, install_webhooks, instance, leader, node, settle, spread, stock, waits_for,
};

#[tokio::test(start_paused = true)]
async fn two_hundred_creates_over_32_connections_never_overcommit_and_the_rest_waits() {
    let api = api();
    stock(&api);
    for n in 0..20 {
        node(&api, &format!("node-{n}")).await;
    }
    let replica = leader(&api).await;
    install_webhooks(&api, &Arc::new(Mutex::new(replica.router.clone())));

    let names: Vec<String> = (0..200).map(|n| format!("web-{n}")).collect();
    let created = stream::iter(&names).map(|name| {
        let (api, object) = (api.clone(), instance(name));
        tokio::spawn(async move { create(&api, &object).await.unwrap() })
    });
    let created: Vec<Instance> = created.buffer_unordered(32).map(Result::unwrap).collect().await;
    // 20 hosts with 8 processors each, none promised twice.
    let at_once = created
        .iter()
        .filter(|instance| instance.spec.node_name.is_some())
        .count();
    assert_eq!(at_once, 160);
    assert!(
        created
            .iter()
            .filter(|i| i.spec.node_name.is_some())
            .all(|i| i.finalizers() == ["virga.dev/agent"])
    );

    settle(&api).await;
    assert_eq!(spread(&api).len(), 20);
    assert!(spread(&api).values().all(|count| *count == 8), "{:?}", spread(&api));
    assert_eq!(replica.scheduler.reservations(), 0, "each was confirmed by the watch");
    let waiting = created
        .iter()
        .find(|instance| instance.spec.node_name.is_none())
        .unwrap();
    let message = waits_for(&api, &waiting.name_any(), Reason::NoValidHost).await;
    assert_eq!(message, "0/20 hosts: 20 CoreFilter");

    for instance in api
        .list::<Instance>()
        .iter()
        .filter(|i| i.spec.node_name.is_some())
        .take(40)
    {
        api.merge::<Instance>(
            Some("shop"),
            &instance.name_any(),
            json!({"metadata": {"finalizers": null}}),
        );
        api.delete::<Instance>(Some("shop"), &instance.name_any());
    }
    for instance in created.iter().filter(|instance| instance.spec.node_name.is_none()) {
        bound(&api, &instance.name_any()).await;
    }
    assert!(spread(&api).values().all(|count| *count == 8), "{:?}", spread(&api));
}

#[tokio::test]
async fn threads_that_decide_at_the_same_time_are_never_promised_the_same_room() {
    let api = api();
    stock(&api);
    for n in 0..5 {
        node(&api, &format!("node-{n}")).await;
    }
    let replica = leader(&api).await;
    let scheduler = &replica.scheduler;
    let hosts: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..32)
            .map(|thread| {
                scope.spawn(move || {
                    let ask = |n: u32| match scheduler.admit(
                        &format!("{thread}-{n}"),
                        &instance(&format!("i-{thread}-{n}")),
                        false,
                    ) {
                        Decision::Placed(placement) => Some(placement.host),
                        _ => None,
                    };
                    (0..7).filter_map(ask).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(hosts.len(), 40, "five hosts with 8 processors each");
    for host in hosts.iter().collect::<BTreeSet<_>>() {
        assert_eq!(hosts.iter().filter(|other| *other == host).count(), 8, "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_webhook_refused_gives_its_room_back_after_a_while() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    let replica = leader(&api).await;
    install_webhooks(&api, &Arc::new(Mutex::new(replica.router.clone())));
    api.on_admission("instances", async |_| json!({"response": {"allowed": false}}));
    for n in 0..8 {
        create(&api, &instance(&format!("web-{n}"))).await.unwrap_err();
    }
    assert_eq!(replica.scheduler.reservations(), 8);
    let full = replica.scheduler.admit("late", &instance("late"), false);
    assert!(matches!(full, Decision::Refused(_)), "{full:?}");

    tokio::time::sleep(Duration::from_secs(33)).await;
    assert_eq!(replica.scheduler.reservations(), 0);
    let decision = replica.scheduler.admit("later", &instance("later"), true);
    assert!(matches!(decision, Decision::Placed(_)), "{decision:?}");
}

#[tokio::test(start_paused = true)]
async fn names_that_are_made_after_admission_end_their_reservations_too() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    let replica = leader(&api).await;
    let mut object = instance("");
    object.metadata.name = None;
    object.metadata.generate_name = Some("web-".into());
    for review in ["r-1", "r-2"] {
        assert!(matches!(
            replica.scheduler.admit(review, &object, false),
            Decision::Placed(_)
        ));
    }
    for (n, left) in [(1, 1), (2, 0)] {
        let mut made = object.clone();
        made.metadata.name = Some(format!("web-{n}"));
        made.spec.node_name = Some("node-1".into());
        api.create(&made);
        settle(&api).await;
        assert_eq!(replica.scheduler.reservations(), left);
    }
    assert_eq!(replica.scheduler.usage("node-1").vcpus, 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_counts_all_that_the_old_one_bound_before_it_decides() {
    let api = api();
    stock(&api);
    node(&api, "node-1").await;
    let old = leader(&api).await;
    let selected = Arc::new(Mutex::new(old.router.clone()));
    install_webhooks(&api, &selected);
    let new = Replica::start(&api, "b").await;
    for n in 0..6 {
        create(&api, &instance(&format!("web-{n}"))).await.unwrap();
    }
    settle(&api).await;
    // The next two are bound while the new leader's watch stands still.
    api.hold_watches();
    for n in 6..8 {
        create(&api, &instance(&format!("web-{n}"))).await.unwrap();
    }
    old.stop().await;
    *selected.lock().unwrap() = new.router.clone();
    let opening = new.lead();
    tokio::pin!(opening);
    let early = tokio::time::timeout(Duration::from_secs(8), &mut opening).await;
    assert!(
        early.is_err() && !new.scheduler.is_open(),
        "it must not decide before it has seen all"
    );
    assert!(
        create(&api, &instance("early")).await.unwrap().spec.node_name.is_none(),
        "admitted unbound"
    );

    api.release_watches();
    opening.await;
    let message = waits_for(&api, "early", Reason::NoValidHost).await;
    assert_eq!(message, "0/1 hosts: 1 CoreFilter");
    assert_eq!(spread(&api)["node-1"], 8);
}
