//! Files that move between two honest hosts, over real TLS on loopback.

use std::{
    num::NonZeroU64,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use virga_images::Digest;
use virga_transfer::{
    bandwidth::Bandwidth,
    client::{Client, Error, Phase, Progress, Source, What},
    handover::{Receiver, Source as State},
};

use crate::stage::{Authority, Host, MIB, Proxy, allocated, client, digest_of, id, impatient, node, receive, request};

#[tokio::test]
async fn of_a_sparse_gibibyte_only_its_ten_mebibytes_travel_and_it_changes_its_owner() {
    let authority = Authority::new();
    let host = Host::start(authority.credentials("node-1")).await;
    let data: Vec<_> = (0..10).map(|index| (index * 100 * MIB, MIB)).collect();
    let path = host.file("root.raw", 1024 * MIB, &data);
    let token = host.offer("a", &path, "node-2").await;
    let proxy = Proxy::start(host.address).await;
    let source = Source {
        address: proxy.address,
        ..host.source("a", &token)
    };
    let there = tempfile::tempdir().unwrap();
    let request = request(source, &there.path().join("root.raw"));
    let client = client(&authority.credentials("node-2"));
    let (progress, seen) = watch::channel(Progress::default());

    let received = client.receive(&request, &progress).await.unwrap();
    assert_eq!((received.length, received.handover), (1024 * MIB, true));
    let moved = proxy.forwarded.load(Ordering::SeqCst);
    assert!(
        (10 * MIB..11 * MIB).contains(&moved),
        "{moved} bytes went over the wire"
    );
    assert!(allocated(&received.path) <= 11 * MIB, "{}", allocated(&received.path));
    let last = *seen.borrow();
    assert_eq!((last.phase, last.percent()), (Phase::Received, 100));
    assert!(!there.path().join("root.raw.partial").exists());

    // It is here, and not ours yet.
    assert!(host.offers.state(&id("a")).unwrap().owns());
    let state = client.state(&request.destination).await.unwrap();
    assert_eq!(
        state,
        Some(Receiver::Verified {
            digest: received.digest
        })
    );
    assert!(matches!(
        client.abandon(&request.destination).await,
        Err(Error::State { .. })
    ));

    client.complete(&request).await.unwrap();
    let let_go = State::LetGo {
        digest: received.digest,
    };
    assert_eq!(host.offers.state(&id("a")), Some(let_go));
    assert_eq!(client.state(&request.destination).await.unwrap(), None);
    client.complete(&request).await.unwrap();
    assert!(host.offers.revoke(&id("a")).await.is_err(), "too late to take it back");
    host.offers.forget(&id("a")).await.unwrap();
    assert_eq!(digest_of(&path), digest_of(&received.path));
    assert_eq!(digest_of(&path), received.digest);
}

#[tokio::test]
async fn files_of_every_odd_length_arrive() {
    let authority = Authority::new();
    let host = Host::start(authority.credentials("node-1")).await;
    let client = client(&authority.credentials("node-2"));
    let there = tempfile::tempdir().unwrap();
    let lengths = [0, 1, 65_535, 65_536, 65_537, 3 * MIB + 7];
    for (index, length) in lengths.into_iter().enumerate() {
        for (kind, data) in [
            ("full", vec![(0, length)]),
            ("hole", vec![]),
            ("tail", vec![(length.saturating_sub(1), length.min(1))]),
        ] {
            let name = format!("{kind}-{index}");
            let path = host.file(&name, length, &data);
            let token = host.offer(&name, &path, "node-2").await;
            let request = request(host.source(&name, &token), &there.path().join(&name));
            let received = receive(&client, &request).await.unwrap();
            assert_eq!(received.length, length, "{name}");
            assert_eq!(digest_of(&path), digest_of(&received.path), "{name}");
            client.complete(&request).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_image_goes_to_any_node_by_its_digest_and_a_wrong_one_is_removed() {
    let authority = Authority::new();
    let host = Host::start(authority.credentials("node-1")).await;
    let path = host.file("image", 2 * MIB, &[(0, MIB)]);
    let digest = digest_of(&path);
    host.offers.publish(digest, path.clone()).await.unwrap();
    let lie = Digest::of(b"something else");
    host.offers.publish(lie, path).await.unwrap();
    let client = client(&authority.credentials("node-7"));
    let there = tempfile::tempdir().unwrap();
    let of = |digest| Source {
        node: node("node-1"),
        address: host.address,
        what: What::Digest(digest),
    };

    let good = request(of(digest), &there.path().join("good"));
    let received = receive(&client, &good).await.unwrap();
    assert_eq!((received.digest, received.handover), (digest, false));
    assert_eq!(digest_of(&received.path), digest);
    assert!(!there.path().join("good.transfer").exists(), "a copy needs no journal");

    let bad = request(of(lie), &there.path().join("bad"));
    let error = receive(&client, &bad).await.unwrap_err();
    assert!(
        matches!(error, Error::DigestMismatch { expected, actual } if expected == lie && actual == digest),
        "{error}"
    );
    assert!(!there.path().join("bad").exists());
    assert_eq!(allocated(&there.path().join("bad.partial")), 0);
    client.abandon(&bad.destination).await.unwrap();
    assert!(!there.path().join("bad.partial").exists());

    host.offers.unpublish(&digest);
    let gone = request(of(digest), &there.path().join("gone"));
    assert!(matches!(receive(&client, &gone).await, Err(Error::Refused { .. })));
}

#[tokio::test]
async fn a_file_that_is_there_already_is_never_written_over() {
    let authority = Authority::new();
    let host = Host::start(authority.credentials("node-1")).await;
    let path = host.file("disk", MIB, &[(0, MIB)]);
    let token = host.offer("a", &path, "node-2").await;
    let there = tempfile::tempdir().unwrap();
    let destination = there.path().join("disk");
    std::fs::write(&destination, b"somebody's").unwrap();
    let client = client(&authority.credentials("node-2"));
    let error = receive(&client, &request(host.source("a", &token), &destination))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Exists(_)), "{error}");
    assert_eq!(std::fs::read(&destination).unwrap(), b"somebody's");
}

#[tokio::test]
async fn the_bound_on_bandwidth_holds_for_all_transfers_together_on_either_side() {
    let authority = Authority::new();
    let host = Host::start(authority.credentials("node-1")).await;
    let there = tempfile::tempdir().unwrap();
    let ours = Bandwidth::new(None);
    let client = Client::new(authority.credentials("node-2"), ours.clone(), impatient());
    for (round, side) in [&host.bandwidth, &ours].into_iter().enumerate() {
        side.set(NonZeroU64::new(2 * MIB));
        let begin = Instant::now();
        let one = async |name: String| {
            let path = host.file(&name, MIB, &[(0, MIB)]);
            let token = host.offer(&name, &path, "node-2").await;
            let request = request(host.source(&name, &token), &there.path().join(&name));
            receive(&client, &request).await.unwrap();
        };
        tokio::join!(one(format!("a{round}")), one(format!("b{round}")));
        let took = begin.elapsed();
        // 2 MiB at 2 MiB/s, less what an idle bucket had gathered.
        assert!(took > Duration::from_millis(750), "{took:?}");
        side.set(None);
    }
}

#[tokio::test]
async fn no_more_transfers_run_at_once_than_allowed_and_all_come_to_their_end() {
    let authority = Authority::new();
    let host = Host::start(authority.credentials("node-1")).await;
    host.bandwidth.set(NonZeroU64::new(8 * MIB));
    let there = tempfile::tempdir().unwrap();
    let client = client(&authority.credentials("node-2"));
    let mut running = tokio::task::JoinSet::new();
    let mut watches = Vec::new();
    for index in 0..6 {
        let name = format!("disk-{index}");
        let path = host.file(&name, MIB, &[(0, MIB)]);
        let token = host.offer(&name, &path, "node-2").await;
        let request = request(host.source(&name, &token), &there.path().join(&name));
        let (progress, seen) = watch::channel(Progress::default());
        watches.push(seen);
        let client = client.clone();
        running.spawn(async move { client.receive(&request, &progress).await.unwrap() });
    }
    let mut most = 0;
    loop {
        match tokio::time::timeout(Duration::from_millis(5), running.join_next()).await {
            Ok(None) => break,
            Ok(Some(done)) => drop(done.unwrap()),
            Err(_) => {}
        }
        let busy = |phase| matches!(phase, Phase::Transferring | Phase::Verifying);
        most = most.max(watches.iter().filter(|seen| busy(seen.borrow().phase)).count());
    }
    assert!((1..=2).contains(&most), "{most} at once");
    assert!(watches.iter().all(|seen| seen.borrow().phase == Phase::Received));
}
