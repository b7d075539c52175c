//! Either side dies at any byte, and comes back. Seeded: a failure names its seed.

use std::sync::Arc;

use fastrand::Rng;
use tokio::sync::watch;
use virga_transfer::{
    bandwidth::Bandwidth,
    client::{self, Client, Progress, Request, Source},
    handover::Receiver,
    tls::Credentials,
};

use crate::stage::{self, Authority, Host, MIB, Proxy, digest_of, id, impatient, receive, request};

const SEEDS: u64 = 20;
/// More than any seed needs.
const ROUNDS: usize = 200;

#[derive(Clone, Copy, Debug)]
enum Dies {
    Receiver,
    Source,
    Wire,
}

struct Scene {
    host: Host,
    proxy: Proxy,
    credentials: Arc<Credentials>,
    request: Request,
    random: Rng,
}

impl Scene {
    /// The receiving process, started anew.
    fn client(&self) -> Client {
        let options = client::Options {
            checkpoint_bytes: 256 * 1024,
            attempts: 2,
            ..impatient()
        };
        Client::new(Arc::clone(&self.credentials), Bandwidth::new(None), options)
    }

    /// Does this until it is done or something dies. `None`: it did not come to its end.
    async fn once<T>(
        &mut self,
        most: u64,
        work: impl AsyncFn(&Client, &Request) -> Result<T, client::Error>,
    ) -> Option<T> {
        let dies = self.random.choice([Dies::Receiver, Dies::Source, Dies::Wire]).unwrap();
        self.proxy.cut_after(self.random.u64(0..most));
        let (client, request) = (self.client(), self.request.clone());
        let work = work(&client, &request);
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return done.ok(),
            () = self.proxy.was_cut() => {}
        }
        match dies {
            Dies::Receiver => None,
            Dies::Wire => work.await.ok(),
            Dies::Source => {
                self.host.restart().await;
                self.proxy.target.send_replace(self.host.address);
                self.proxy.cut_after(1 << 40);
                work.await.ok()
            }
        }
    }

    /// Never two owners, and none only while a verified file is here whose source will say again that it let go.
    async fn check(&self) {
        let source = self.host.offers.state(&id("a")).unwrap();
        let here = self.client().state(&self.request.destination).await.unwrap();
        let whole = self.request.destination.exists();
        let owned = matches!(here, Some(Receiver::Owned { .. })) || (here.is_none() && whole);
        assert!(!(owned && source.owns()), "two owners: {source:?} {here:?}");
        if !owned && !source.owns() {
            assert!(
                matches!(here, Some(Receiver::Verified { .. })),
                "no owner: {source:?} {here:?}"
            );
        }
    }
}

#[tokio::test]
async fn whoever_dies_at_whichever_byte_the_file_arrives_whole_and_has_one_owner() {
    let authority = Authority::new();
    let mut deaths = 0;
    for seed in 0..SEEDS {
        let mut random = Rng::with_seed(seed);
        let host = Host::start(authority.credentials("node-1")).await;
        let length = random.u64(1..6 * MIB);
        let data: Vec<_> = (0..random.usize(0..6))
            .map(|_| {
                let at = random.u64(0..length);
                (at, random.u64(0..2 * MIB).min(length - at))
            })
            .collect();
        let path = host.file("disk", length, &data);
        let token = host.offer("a", &path, "node-2").await;
        let proxy = Proxy::start(host.address).await;
        let there = tempfile::tempdir().unwrap();
        let source = Source {
            address: proxy.address,
            ..host.source("a", &token)
        };
        let mut scene = Scene {
            host,
            proxy,
            credentials: authority.credentials("node-2"),
            request: request(source, &there.path().join("disk")),
            random,
        };
        let mut received = None;
        for round in 0..ROUNDS {
            assert!(round + 1 < ROUNDS, "seed {seed} does not get on");
            // Each round may bring more than the one before, so that it ends.
            let most = (round as u64 + 2) * MIB / 2;
            received = scene
                .once(most, async |client, request| receive(client, request).await)
                .await;
            scene.check().await;
            if received.is_some() {
                break;
            }
            deaths += 1;
        }
        let received = received.unwrap();
        assert_eq!(digest_of(&received.path), digest_of(&path), "seed {seed}");
        assert_eq!(received.digest, digest_of(&path), "seed {seed}");
        for round in 0..ROUNDS {
            assert!(round + 1 < ROUNDS, "seed {seed} does not get on");
            let most = (round as u64 + 1) * 2048;
            let owned = scene
                .once(most, async |client, request| client.complete(request).await)
                .await;
            scene.check().await;
            if owned.is_some() {
                break;
            }
            deaths += 1;
        }
        assert!(!scene.host.offers.state(&id("a")).unwrap().owns());
        assert_eq!(digest_of(&received.path), received.digest, "seed {seed}");
        let left: Vec<_> = std::fs::read_dir(there.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["disk"], "seed {seed}");
    }
    assert!(deaths >= SEEDS, "only {deaths} deaths");
}

#[tokio::test]
async fn what_is_durable_does_not_travel_again() {
    let authority = Authority::new();
    let host = Host::start(authority.credentials("node-1")).await;
    let path = host.file("disk", 16 * MIB, &[(0, 4 * MIB), (12 * MIB, 4 * MIB)]);
    let token = host.offer("a", &path, "node-2").await;
    let there = tempfile::tempdir().unwrap();
    let request = request(host.source("a", &token), &there.path().join("disk"));
    let credentials = authority.credentials("node-2");
    let mut durable = 0;
    for wanted in [2 * MIB, 5 * MIB, 7 * MIB] {
        let (progress, mut seen) = watch::channel(Progress::default());
        let client = stage::client(&credentials);
        let dies = async {
            let first = *seen.wait_for(|progress| progress.total > 0).await.unwrap();
            assert!(first.done >= durable, "{first:?} after {durable}");
            seen.wait_for(|progress| progress.done >= wanted).await.unwrap().done
        };
        tokio::select! {
            received = client.receive(&request, &progress) => panic!("{received:?}"),
            // Each piece is as long as what is synced at once, so what is told is durable.
            done = dies => durable = done,
        }
    }
    receive(&stage::client(&credentials), &request).await.unwrap();
    assert_eq!(digest_of(&request.destination), digest_of(&path));
}
