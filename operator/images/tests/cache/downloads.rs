//! Downloads that come to a good end, however the server behaves.

use std::{fs, time::Duration};

use futures::future::select_all;
use virga_images::{
    Digest,
    cache::{Error, Options, Phase, Request, Source},
};

use crate::{
    bench::{Bench, SIZE, end, until_bytes},
    origin::{disk, options},
};

#[tokio::test]
async fn many_waiters_share_one_request_and_later_ones_need_none() {
    let bench = Bench::new().await;
    let cache = bench.open().await;
    bench.origin.hold_after(20);
    let fetches: Vec<_> = (0..50).map(|_| cache.ensure(bench.request())).collect();
    until_bytes(&fetches[0], 1).await;
    assert_eq!(fetches[0].progress().total, Some(SIZE as u64));
    assert!(cache.under_way("image-1").is_some());
    bench.origin.release();
    let mut entries = Vec::new();
    for fetch in fetches {
        entries.push(end(fetch).await.unwrap());
    }
    bench.assert_content(&entries[0]);
    assert!(entries.iter().all(|entry| *entry == entries[0]));
    assert!(cache.under_way("image-1").is_none());
    bench.assert_content(&cache.ensure(bench.request()).await.unwrap());
    assert_eq!(bench.origin.requests(), 1);
}

#[tokio::test]
async fn a_cached_image_is_read_only_and_named_by_its_digest() {
    use std::os::unix::fs::MetadataExt as _;
    let bench = Bench::new().await;
    let cache = bench.open().await;
    let entry = cache.ensure(bench.request()).await.unwrap();
    let hex = Digest::of(&bench.content).hex();
    assert_eq!(
        bench.files(),
        [format!("sha256-{hex}.json"), format!("sha256-{hex}.raw")]
    );
    let metadata = fs::metadata(&entry.path).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o444);
    assert!(
        metadata.blocks() * 512 < SIZE as u64 - 1_000_000,
        "zeros are holes: {} blocks",
        metadata.blocks()
    );
    assert_eq!(cache.used_bytes(), metadata.blocks() * 512);
    assert_eq!(cache.entries(), std::slice::from_ref(&entry));
    assert_eq!(cache.get(entry.digest), Some(entry));
}

#[tokio::test]
async fn a_connection_that_breaks_at_any_byte_is_resumed_to_the_same_digest() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..5 {
        let bench = Bench::new().await;
        let cuts: Vec<usize> = (0..6).map(|_| random.usize(0..1_500_000)).collect();
        bench.origin.change(|behaviour| behaviour.cuts.extend(&cuts));
        let cache = bench
            .open_with(Options {
                attempts: 10,
                ..options()
            })
            .await;
        bench.assert_content(&end(cache.ensure(bench.request())).await.unwrap());
        let seen = bench.origin.seen();
        assert!(seen.len() > 1, "{cuts:?}");
        // Each request goes on at or before where the last one broke: nothing is skipped.
        let starts: Vec<usize> = seen
            .iter()
            .map(|range| {
                range
                    .as_ref()
                    .map_or(0, |range| range[6..range.len() - 1].parse().unwrap())
            })
            .collect();
        for (pair, cut) in starts.windows(2).zip(&cuts) {
            assert!(pair[0] <= pair[1] && pair[1] <= pair[0] + cut, "{starts:?} {cuts:?}");
        }
        assert!(*starts.last().unwrap() > 0, "{starts:?} {cuts:?}");
    }
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let bench = Bench::new().await;
    bench.origin.change(|behaviour| {
        behaviour.ranges = false;
        behaviour.cuts.push_back(2_000_000);
    });
    let cache = bench.open().await;
    bench.assert_content(&end(cache.ensure(bench.request())).await.unwrap());
    assert_eq!(bench.origin.requests(), 2);
}

#[tokio::test]
async fn a_file_that_changes_on_the_way_is_read_from_the_start() {
    for if_range in [true, false] {
        let mut bench = Bench::new().await;
        bench.origin.hold_after(40);
        let cache = bench.open().await;
        let fetch = cache.ensure(bench.request());
        until_bytes(&fetch, 1 << 20).await;
        cache.close().await;
        bench.content = disk(SIZE, 2);
        bench.origin.change(|behaviour| {
            behaviour.body = bench.content.clone().into();
            behaviour.etag = Some("\"two\"");
            behaviour.if_range = if_range;
        });
        bench.origin.release();
        let cache = bench.open().await;
        bench.assert_content(&end(cache.ensure(bench.request())).await.unwrap());
        assert!(bench.origin.seen()[1].is_some(), "it tried to go on");
    }
}

#[tokio::test]
async fn halves_of_two_versions_that_only_the_checksum_tells_apart_are_fetched_again() {
    let mut bench = Bench::new().await;
    let old = bench.content.clone();
    bench.content = disk(SIZE, 2);
    bench.origin.change(|behaviour| {
        behaviour.etag = None;
        behaviour.cuts.push_back(2_000_000);
        behaviour.body = old.into();
    });
    // The server changes its file, of the same length and without a validator, after the first attempt.
    bench.origin.hold_after(40);
    let cache = bench.open().await;
    let fetch = cache.ensure(bench.checked_request());
    until_bytes(&fetch, 1 << 20).await;
    bench
        .origin
        .change(|behaviour| behaviour.body = bench.content.clone().into());
    bench.origin.release();
    bench.assert_content(&end(fetch).await.unwrap());
    let seen = bench.origin.seen();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(seen[1].is_some() && seen[2].is_none(), "{seen:?}");
}

#[tokio::test]
async fn without_validator_and_checksum_nothing_is_joined() {
    let bench = Bench::new().await;
    bench.origin.change(|behaviour| {
        // A weak tag says nothing about bytes.
        behaviour.etag = Some("W/\"one\"");
        behaviour.cuts.push_back(2_000_000);
    });
    let cache = bench.open().await;
    bench.assert_content(&end(cache.ensure(bench.request())).await.unwrap());
    assert_eq!(bench.origin.seen(), [None, None]);
}

#[tokio::test]
async fn a_date_is_a_validator_too() {
    let bench = Bench::new().await;
    bench.origin.change(|behaviour| {
        behaviour.etag = None;
        behaviour.last_modified = Some("Sun, 01 Nov 2026 08:00:00 GMT");
        behaviour.cuts.push_back(2_000_000);
    });
    let cache = bench.open().await;
    bench.assert_content(&end(cache.ensure(bench.request())).await.unwrap());
    assert!(bench.origin.seen()[1].is_some());
}

#[tokio::test]
async fn a_process_that_is_stopped_in_the_middle_leaves_what_the_next_goes_on_with() {
    for request in [Bench::request, Bench::checked_request] {
        let bench = Bench::new().await;
        bench.origin.hold_after(40);
        let cache = bench.open().await;
        let fetch = cache.ensure(request(&bench));
        until_bytes(&fetch, 2 << 20).await;
        assert!(
            fetch
                .progress()
                .percent()
                .is_some_and(|percent| (30..100).contains(&percent))
        );
        cache.close().await;
        assert!(matches!(end(fetch).await, Err(Error::Cancelled)));
        assert_eq!(bench.files(), ["image-1.part", "image-1.part.json"]);
        let kept = fs::metadata(bench.directory().join("image-1.part")).unwrap().len();

        bench.origin.release();
        let cache = bench.open().await;
        bench.assert_content(&end(cache.ensure(request(&bench))).await.unwrap());
        assert_eq!(bench.origin.seen(), [None, Some(format!("bytes={kept}-"))]);
        assert_eq!(bench.files().len(), 2, "{:?}", bench.files());
    }
}

#[test]
fn a_process_that_is_killed_in_the_middle_leaves_what_the_next_goes_on_with() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    // The server outlives the process, which is a runtime that is torn down without warning.
    let (server, process) = (runtime(), runtime());
    let bench = server.block_on(Bench::new());
    bench.origin.hold_after(40);
    let (cache, fetch) = process.block_on(async {
        let cache = bench.open().await;
        let fetch = cache.ensure(bench.request());
        until_bytes(&fetch, 2 << 20).await;
        (cache, fetch)
    });
    process.shutdown_timeout(Duration::from_secs(30));
    drop((cache, fetch));
    let kept = fs::metadata(bench.directory().join("image-1.part")).unwrap().len();
    assert!(kept >= 2 << 20);
    bench.origin.release();
    let entry = server.block_on(async { end(bench.open().await.ensure(bench.request())).await.unwrap() });
    bench.assert_content(&entry);
    assert_eq!(bench.origin.seen(), [None, Some(format!("bytes={kept}-"))]);
}

#[tokio::test]
async fn two_keys_that_bring_the_same_bytes_share_one_file() {
    use std::os::unix::fs::MetadataExt as _;
    let bench = Bench::new().await;
    let cache = bench.open().await;
    let first = end(cache.ensure(bench.request())).await.unwrap();
    let inode = fs::metadata(&first.path).unwrap().ino();
    let other = Request {
        key: "image-2".to_owned(),
        ..bench.request()
    };
    let second = end(cache.ensure(other)).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(
        fs::metadata(&second.path).unwrap().ino(),
        inode,
        "a guest may run on the first"
    );
    assert_eq!(bench.origin.requests(), 2);
    assert_eq!(bench.files().len(), 2);
}

#[tokio::test]
async fn a_part_of_another_source_is_not_continued() {
    let bench = Bench::new().await;
    bench.origin.hold_after(40);
    let cache = bench.open().await;
    until_bytes(&cache.ensure(bench.request()), 1 << 20).await;
    cache.close().await;
    bench.origin.release();
    let cache = bench.open().await;
    let other = Request {
        source: Source::Http {
            url: bench.origin.url() + "?other",
        },
        ..bench.request()
    };
    bench.assert_content(&end(cache.ensure(other)).await.unwrap());
    assert_eq!(bench.origin.seen(), [None, None]);
}

#[tokio::test]
async fn a_complete_part_needs_no_request() {
    let bench = Bench::new().await;
    let cache = bench.open().await;
    bench.origin.hold_after(40);
    until_bytes(&cache.ensure(bench.request()), 1 << 20).await;
    cache.close().await;
    // The process died between the last byte and the name.
    fs::write(bench.directory().join("image-1.part"), &bench.content).unwrap();
    let cache = bench.open().await;
    bench.assert_content(&end(cache.ensure(bench.request())).await.unwrap());
    assert_eq!(bench.origin.requests(), 1);
}

#[tokio::test]
async fn a_changed_request_replaces_the_fetch_before() {
    let bench = Bench::new().await;
    bench.origin.hold_after(20);
    let cache = bench.open().await;
    let first = cache.ensure(bench.request());
    until_bytes(&first, 1).await;
    bench.origin.release();
    let second = cache.ensure(bench.checked_request());
    bench.assert_content(&end(second).await.unwrap());
    // The first may have ended in time.
    assert!(matches!(end(first).await, Err(Error::Cancelled) | Ok(_)));
}

#[tokio::test]
async fn a_discarded_download_stops_and_leaves_nothing() {
    let bench = Bench::new().await;
    bench.origin.hold_after(40);
    let cache = bench.open().await;
    let fetch = cache.ensure(bench.request());
    until_bytes(&fetch, 1 << 20).await;
    cache.discard("image-1").await.unwrap();
    assert!(matches!(end(fetch).await, Err(Error::Cancelled)));
    assert_eq!(bench.files(), [""; 0]);
}

#[tokio::test]
async fn only_so_many_downloads_run_at_a_time() {
    let bench = Bench::new().await;
    bench.origin.hold_after(20);
    let cache = bench
        .open_with(Options {
            concurrency: 1,
            ..options()
        })
        .await;
    let fetches: Vec<_> = (0..4)
        .map(|number| {
            cache.ensure(Request {
                key: format!("image-{number}"),
                ..bench.checked_request()
            })
        })
        .collect();
    let _ = select_all(fetches.iter().map(|fetch| Box::pin(until_bytes(fetch, 1)))).await;
    let queued = fetches
        .iter()
        .filter(|fetch| fetch.progress().phase == Phase::Queued)
        .count();
    assert_eq!(queued, 3);
    bench.origin.release();
    for fetch in fetches {
        bench.assert_content(&end(fetch).await.unwrap());
    }
    // Whoever waited finds that the content is there.
    assert_eq!(bench.origin.requests(), 1);
}
