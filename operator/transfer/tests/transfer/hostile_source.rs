//! A source that somebody has taken over.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;
use virga_images::Digest;
use virga_transfer::{
    GRAIN, Token,
    bandwidth::Bandwidth,
    client::{self, Client, Error, Source, What},
    handover::Receiver,
};

use crate::stage::{self, Authority, MIB, id, node, receive, request};

/// What the hostile source sends.
enum Answer {
    Json(String),
    /// Bytes as they are, then the same piece again and again, with a pause before each.
    Raw(String, Vec<u8>, usize, Duration),
}

/// A source with a good certificate that answers whatever it likes to a path's last step.
async fn source(
    authority: &Authority,
    script: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> (SocketAddr, JoinSet<()>) {
    let (chain, key) = authority.certificate(&["node-1.agents.virga.dev"]);
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.bundle().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let script = Arc::new(script);
    let mut running = JoinSet::new();
    running.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, script) = (acceptor.clone(), Arc::clone(&script));
            connections.spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut asked = Vec::new();
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte).await {
                    asked.push(byte[0]);
                    if !asked.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let text = String::from_utf8(std::mem::take(&mut asked)).unwrap();
                    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                    stream.read_exact(&mut body).await.unwrap();
                    let path = text.split(' ').nth(1).unwrap();
                    let sent = match script(path.rsplit('/').next().unwrap()) {
                        Answer::Json(body) => {
                            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                            stream.write_all(head.as_bytes()).await
                        }
                        Answer::Raw(head, piece, times, pause) => {
                            let mut sent = stream.write_all(head.as_bytes()).await;
                            for _ in 0..times {
                                sleep(pause).await;
                                sent = stream.write_all(&piece).await;
                                if sent.is_err() {
                                    break;
                                }
                            }
                            let _ = stream.shutdown().await;
                            sent
                        }
                    };
                    if sent.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, running)
}

const LENGTH: u64 = 4 * MIB;

fn manifest() -> Answer {
    Answer::Json(format!(
        r#"{{"length":{LENGTH},"allocated":0,"version":"v1","handover":true}}"#
    ))
}

/// One extent over the whole file.
fn extents() -> Answer {
    Answer::Json(format!(r#"{{"extents":[{{"start":0,"len":{LENGTH}}}]}}"#))
}

fn partial(length_header: &str) -> String {
    format!(
        "HTTP/1.1 206 Partial Content\r\n{length_header}\r\ncontent-range: bytes 0-{}/{LENGTH}\r\n\r\n",
        LENGTH - 1
    )
}

fn whole() -> Answer {
    let length = usize::try_from(LENGTH).unwrap();
    Answer::Raw(
        partial(&format!("content-length: {LENGTH}")),
        vec![7; length],
        1,
        Duration::ZERO,
    )
}

/// What the client makes of it, and that it took no longer than its time-outs add up to.
async fn outcome(script: impl Fn(&str) -> Answer + Send + Sync + 'static) -> (Error, tempfile::TempDir) {
    let authority = Authority::new();
    let (address, _running) = source(&authority, script).await;
    let options = client::Options {
        stall: Duration::from_millis(300),
        answer: Duration::from_millis(500),
        attempts: 2,
        deadline: Duration::from_secs(20),
        ..stage::impatient()
    };
    let client = Client::new(authority.credentials("node-2"), Bandwidth::new(None), options);
    let there = tempfile::tempdir().unwrap();
    let what = What::Offer {
        id: id("a"),
        token: Token::random().unwrap(),
    };
    let source = Source {
        node: node("node-1"),
        address,
        what,
    };
    let request = request(source, &there.path().join("disk"));
    let begin = Instant::now();
    let error = match receive(&client, &request).await {
        Err(error) => error,
        Ok(_) => client.complete(&request).await.unwrap_err(),
    };
    assert!(
        begin.elapsed() < Duration::from_secs(15),
        "{:?} for {error}",
        begin.elapsed()
    );
    (error, there)
}

fn protocol(error: &Error) -> &str {
    match error {
        Error::Protocol { what, .. } => what,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_manifest_that_promises_too_much_or_nonsense_is_refused() {
    let (error, there) = outcome(|_| {
        Answer::Json(format!(
            r#"{{"length":{},"allocated":0,"version":"v","handover":true}}"#,
            1_u64 << 50
        ))
    })
    .await;
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert!(!there.path().join("disk.partial").exists());
    for (body, expected) in [
        (
            r#"{"length":1,"allocated":0,"version":"a b","handover":true}"#.to_owned(),
            "version",
        ),
        (
            format!(
                r#"{{"length":1,"allocated":0,"version":"{}","handover":true}}"#,
                "v".repeat(200)
            ),
            "version",
        ),
        (
            format!(
                r#"{{"length":{},"allocated":0,"version":"v","handover":true}}"#,
                u64::MAX
            ),
            "length",
        ),
        (r#"{"length":-1}"#.to_owned(), "not an answer"),
        ("x".repeat(300_000), "too long"),
    ] {
        let (error, _there) = outcome(move |_| Answer::Json(body.clone())).await;
        assert!(protocol(&error).contains(expected), "{error}");
    }
    let full = u64::MAX / 4;
    let (error, _there) = outcome(move |_| {
        Answer::Json(format!(
            r#"{{"length":1,"allocated":{full},"version":"v","handover":true}}"#
        ))
    })
    .await;
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
}

#[tokio::test]
async fn extents_that_overlap_leave_the_file_or_never_end_are_refused() {
    let endless = format!(r#"{{"extents":[{{"start":0,"len":{GRAIN}}}],"next":0}}"#);
    let empty = r#"{"extents":[],"next":0}"#.to_owned();
    let outside = format!(r#"{{"extents":[{{"start":0,"len":{}}}]}}"#, LENGTH + GRAIN);
    let overlapping = format!(
        r#"{{"extents":[{{"start":0,"len":{0}}},{{"start":{0},"len":{0}}}]}}"#,
        2 * GRAIN
    );
    let crumbs: Vec<_> = (0..1024)
        .map(|index| format!(r#"{{"start":{},"len":1}}"#, 2 * index))
        .collect();
    let crumbs = format!(r#"{{"extents":[{}],"next":2047}}"#, crumbs.join(","));
    for body in [endless, empty, outside, overlapping, crumbs] {
        let (error, _there) = outcome(move |step| match step {
            "manifest" => manifest(),
            _ => Answer::Json(body.clone()),
        })
        .await;
        assert!(protocol(&error).contains("extents"), "{error}");
    }
}

#[tokio::test]
async fn bodies_that_are_longer_shorter_slower_or_of_another_range_are_refused() {
    let chunk = || [b"100000\r\n".to_vec(), vec![7; 0x10_0000], b"\r\n".to_vec()].concat();
    let endless = partial("transfer-encoding: chunked");
    let promise = partial(&format!("content-length: {}", 9 * LENGTH));
    for head in [(endless, chunk()), (promise, vec![7; 0x10_0000])] {
        let (error, _there) = outcome(move |step| match step {
            "manifest" => manifest(),
            "data" => Answer::Raw(head.0.clone(), head.1.clone(), 1000, Duration::ZERO),
            _ => extents(),
        })
        .await;
        assert!(protocol(&error).contains("more than it was asked for"), "{error}");
    }
    let length = format!("content-length: {LENGTH}");
    for (piece, times, pause, expected) in [
        (vec![7; 1000], 3, Duration::ZERO, ""),
        (vec![7; 1], 10_000, Duration::from_millis(20), "too slowly"),
        (vec![], 1, Duration::from_mins(1), "too slowly"),
    ] {
        let head = partial(&length);
        let (error, _there) = outcome(move |step| match step {
            "manifest" => manifest(),
            "data" => Answer::Raw(head.clone(), piece.clone(), times, pause),
            _ => extents(),
        })
        .await;
        assert!(
            matches!(&error, Error::Unreachable { reason, .. } if reason.contains(expected)),
            "{error}"
        );
    }
    for head in [
        format!("HTTP/1.1 206 Partial Content\r\n{length}\r\ncontent-range: bytes 1-{LENGTH}/{LENGTH}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n"),
    ] {
        let (error, _there) = outcome(move |step| match step {
            "manifest" => manifest(),
            "data" => Answer::Raw(head.clone(), vec![], 0, Duration::ZERO),
            _ => extents(),
        })
        .await;
        protocol(&error);
    }
}

#[tokio::test]
async fn a_source_that_is_silent_or_speaks_something_else_is_given_up() {
    for (head, pause) in [
        ("", Duration::from_mins(1)),
        ("\x16\x03garbage\r\n\r\n", Duration::ZERO),
    ] {
        let (error, _there) = outcome(move |_| Answer::Raw(head.to_owned(), vec![], 1, pause)).await;
        assert!(matches!(error, Error::Unreachable { attempts: 2, .. }), "{error}");
    }
    let (error, _there) = outcome(|_| {
        Answer::Raw(
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n".to_owned(),
            vec![],
            0,
            Duration::ZERO,
        )
    })
    .await;
    assert!(protocol(&error).contains("302"), "{error}");
}

#[tokio::test]
async fn a_source_that_lies_about_the_digest_or_about_letting_go_makes_no_second_owner() {
    let own = Digest::of(&vec![7; usize::try_from(LENGTH).unwrap()]);
    let other = Digest::of(b"other");
    let script = |digest: Digest, complete: String| {
        move |step: &str| match step {
            "manifest" => manifest(),
            "digest" => Answer::Json(format!(r#"{{"digest":"{digest}","hashed":1}}"#)),
            "data" => whole(),
            "complete" => Answer::Json(complete.clone()),
            _ => extents(),
        }
    };
    let (error, there) = outcome(script(other, String::new())).await;
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    assert!(!there.path().join("disk").exists());

    let (error, there) = outcome(script(own, format!(r#"{{"letGo":true,"digest":"{other}"}}"#))).await;
    assert!(matches!(error, Error::State { .. }), "{error}");
    assert_eq!(state(&there).await, Some(Receiver::Verified { digest: own }));
    let (error, there) = outcome(script(own, format!(r#"{{"letGo":false,"digest":"{own}"}}"#))).await;
    assert!(protocol(&error).contains("let go"), "{error}");
    assert_eq!(state(&there).await, Some(Receiver::Verified { digest: own }));

    let (error, _there) = outcome(|step| match step {
        "manifest" => manifest(),
        "digest" => Answer::Json(r#"{"hashed":5}"#.to_owned()),
        "data" => whole(),
        _ => extents(),
    })
    .await;
    assert!(
        matches!(&error, Error::Unreachable { reason, .. } if reason.contains("does not get on")),
        "{error}"
    );
}

async fn state(there: &tempfile::TempDir) -> Option<Receiver> {
    let client = stage::client(&Authority::new().credentials("node-2"));
    client.state(&there.path().join("disk")).await.unwrap()
}
