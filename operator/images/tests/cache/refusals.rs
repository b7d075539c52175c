//! Downloads that end with an error, and which one.

use std::time::{Duration, Instant};

use virga_images::{
    Digest, Format,
    cache::{Class, Error, Limits, Options, Request, Source},
};

use crate::{
    bench::{Bench, SIZE, end},
    origin::{Origin, options},
};

#[tokio::test]
async fn errors_that_last_are_not_retried() {
    for (status, not_found) in [(404, true), (410, true), (401, false), (403, false), (400, false)] {
        let bench = Bench::new().await;
        bench.origin.change(|behaviour| behaviour.failures.push_back(status));
        let error = end(bench.open().await.ensure(bench.request())).await.unwrap_err();
        match error {
            Error::NotFound { status: found } => assert!(not_found && found == status),
            Error::Refused { status: found } => assert!(!not_found && found == status),
            ref other => panic!("{status}: {other:?}"),
        }
        assert_eq!(error.class(), Class::Invalid);
        assert_eq!(bench.origin.requests(), 1);
    }
}

#[tokio::test]
async fn errors_that_pass_are_retried_a_bounded_number_of_times() {
    let bench = Bench::new().await;
    bench
        .origin
        .change(|behaviour| behaviour.failures.extend([500, 503, 429, 408]));
    let cache = bench.open().await;
    bench.assert_content(&end(cache.ensure(bench.request())).await.unwrap());
    assert_eq!(bench.origin.requests(), 5);

    let bench = Bench::new().await;
    bench.origin.change(|behaviour| behaviour.failures.extend([500; 100]));
    let cache = bench.open().await;
    let error = end(cache.ensure(bench.request())).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { attempts: 5, .. }), "{error:?}");
    assert!(error.to_string().contains("500"), "{error}");
    assert_eq!(bench.origin.requests(), 5);
    // It is not remembered: the next call tries again.
    bench.origin.change(|behaviour| behaviour.failures.clear());
    bench.assert_content(&end(cache.ensure(bench.request())).await.unwrap());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let bench = Bench::new().await;
    // Bound and closed again: nobody listens there.
    let port = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}/secret");
    let error = end(bench.open().await.ensure(Request {
        source: Source::Http { url },
        ..bench.request()
    }))
    .await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn a_server_that_stops_sending_is_given_up_on() {
    let bench = Bench::new().await;
    bench.origin.hold_after(3);
    let cache = bench
        .open_with(Options {
            stall_timeout: Duration::from_millis(200),
            attempts: 2,
            ..options()
        })
        .await;
    let started = Instant::now();
    let error = end(cache.ensure(bench.request())).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { reason, .. } if reason.contains("stopped sending")),
        "{error:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_download_has_a_deadline_however_it_creeps() {
    let bench = Bench::new().await;
    bench.origin.hold_after(1);
    let cache = bench
        .open_with(Options {
            deadline: Duration::from_millis(300),
            ..options()
        })
        .await;
    let error = end(cache.ensure(bench.request())).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { attempts: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn a_wrong_checksum_is_final_and_leaves_nothing() {
    let bench = Bench::new().await;
    let cache = bench.open().await;
    let expected = Digest::of(b"something else");
    let error = end(cache.ensure(Request {
        sha256: Some(expected),
        ..bench.request()
    }))
    .await
    .unwrap_err();
    let actual = Digest::of(&bench.content);
    assert!(
        matches!(error, Error::ChecksumMismatch { expected: e, actual: a } if e == expected && a == actual),
        "{error:?}"
    );
    assert_eq!(bench.origin.requests(), 1);
    assert_eq!(bench.files(), [""; 0]);
}

#[tokio::test]
async fn what_is_no_image_is_refused_with_a_cure_and_leaves_nothing() {
    for (body, expected) in [
        (
            b"<!DOCTYPE html><html>Please log in".to_vec(),
            "the image is an HTML page; check the URL",
        ),
        (
            b"\x1f\x8b\x08".repeat(500_000),
            "the image is compressed with gzip; decompress it first: gunzip",
        ),
        (Vec::new(), "the image is empty"),
        (vec![0; 4096], "if it really is a raw disk, say so"),
    ] {
        let bench = Bench::new().await;
        bench.origin.change(|behaviour| behaviour.body = body.into());
        let error = end(bench.open().await.ensure(bench.request())).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.class(), Class::Invalid);
        assert_eq!(bench.files(), [""; 0], "{expected}");
        assert_eq!(bench.origin.requests(), 1);
    }
}

#[tokio::test]
async fn the_wrong_thing_is_refused_at_its_first_bytes() {
    let bench = Bench::new().await;
    let mut body = b"\xfd7zXZ\0".to_vec();
    body.resize(SIZE, 1);
    bench.origin.change(|behaviour| behaviour.body = body.into());
    // The server would never send the rest.
    bench.origin.hold_after(20);
    let error = end(bench.open().await.ensure(bench.request())).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::NotADiskImage {
                what: "compressed with xz",
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_read_to_its_end() {
    for length in [true, false] {
        let bench = Bench::new().await;
        bench.origin.change(|behaviour| behaviour.length = length);
        bench.origin.hold_after(if length { 0 } else { 20 });
        let cache = bench.open().await;
        let limits = Limits {
            max_size: 1_000_000,
            ..Limits::default()
        };
        let error = end(cache.ensure(Request {
            limits,
            ..bench.request()
        }))
        .await
        .unwrap_err();
        assert!(
            matches!(
                error,
                Error::TooLarge {
                    what: "the file",
                    limit: 1_000_000,
                    ..
                }
            ),
            "{length}: {error:?}"
        );
        assert_eq!(bench.files(), [""; 0]);
    }
}

#[tokio::test]
async fn sizes_and_claims_are_held_against_new_and_cached_images_alike() {
    let bench = Bench::new().await;
    let cache = bench.open().await;
    let with = |limits| Request {
        limits,
        ..bench.request()
    };
    let small_disk = Limits {
        max_virtual_size: 1_000_000,
        ..Limits::default()
    };
    let large_file = Limits {
        min_size: 1 << 30,
        ..Limits::default()
    };
    let qcow2 = Request {
        format: Some(Format::Qcow2),
        ..bench.request()
    };
    for cached in [false, true] {
        if cached {
            end(cache.ensure(bench.request())).await.unwrap();
        }
        let error = end(cache.ensure(with(small_disk))).await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::TooLarge {
                    what: "the virtual disk",
                    ..
                }
            ),
            "{error:?}"
        );
        let error = end(cache.ensure(with(large_file))).await.unwrap_err();
        assert!(matches!(error, Error::TooSmall { .. }), "{error:?}");
        let error = end(cache.ensure(qcow2.clone())).await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::FormatMismatch {
                    claimed: Format::Qcow2,
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn without_space_nothing_is_fetched() {
    let bench = Bench::new().await;
    let cache = bench
        .open_with(Options {
            min_free: u64::MAX / 2,
            ..options()
        })
        .await;
    let error = end(cache.ensure(bench.request())).await.unwrap_err();
    assert!(
        matches!(error, Error::NoSpace { needed, .. } if needed == SIZE as u64),
        "{error:?}"
    );
    assert_eq!(error.class(), Class::Waiting);
    assert_eq!(bench.files(), [""; 0]);
}

#[tokio::test]
async fn redirects_are_followed_a_bounded_number_of_times_and_only_to_the_web() {
    let bench = Bench::new().await;
    let front = Origin::serve(Vec::new()).await;
    let request = Request {
        source: Source::Http { url: front.url() },
        ..bench.request()
    };
    let cache = bench.open().await;
    for (target, reason) in [
        (front.url(), "more than 5 times"),
        ("ftp://host/image".to_owned(), "scheme ftp"),
        ("file:///etc/passwd".to_owned(), "can't be followed"),
    ] {
        front.change(|behaviour| behaviour.redirect = Some(target));
        let error = end(cache.ensure(request.clone())).await.unwrap_err();
        assert!(
            matches!(&error, Error::InvalidUrl(text) if text.contains(reason)),
            "{error:?}"
        );
    }
    assert!(front.requests() <= 8, "{}", front.requests());
    front.change(|behaviour| behaviour.redirect = Some(bench.origin.url()));
    bench.assert_content(&end(cache.ensure(request)).await.unwrap());
}

#[tokio::test]
async fn addresses_of_the_node_itself_are_refused_by_number_by_name_and_by_redirect() {
    let bench = Bench::new().await;
    let cache = bench
        .open_with(Options {
            allow_local_addresses: false,
            ..options()
        })
        .await;
    for url in [
        bench.origin.url(),
        format!("http://localhost:{}/image", bench.origin.port()),
    ] {
        let error = end(cache.ensure(Request {
            source: Source::Http { url },
            ..bench.request()
        }))
        .await
        .unwrap_err();
        assert!(
            matches!(&error, Error::InvalidUrl(text) if text.contains("the node itself")),
            "{error:?}"
        );
    }
    assert_eq!(bench.origin.requests(), 0);
}
