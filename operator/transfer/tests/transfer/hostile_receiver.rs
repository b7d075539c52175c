//! A receiver that somebody has taken over, and strangers.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};
use virga_transfer::{Token, server};

use crate::stage::{self, Authority, Host, MIB, connect, receive, request};

fn short() -> server::Options {
    let soon = Duration::from_millis(400);
    server::Options {
        handshake: soon,
        idle: soon,
        question: soon,
        stall: soon,
        max_connections: 6,
        max_connections_per_node: 2,
        max_handshakes: 4,
        ..server::Options::default()
    }
}

/// Reads until the server closes.
async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the server did not close");
    answer
}

#[tokio::test]
async fn strangers_that_connect_and_say_nothing_do_not_keep_nodes_out() {
    let authority = Authority::new();
    let host = Host::start_with(authority.credentials("node-1"), short()).await;
    let path = host.file("disk", MIB, &[(0, MIB)]);
    let token = host.offer("a", &path, "node-2").await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(tokio::net::TcpStream::connect(host.address).await.unwrap());
    }
    let there = tempfile::tempdir().unwrap();
    let request = request(host.source("a", &token), &there.path().join("disk"));
    receive(&stage::client(&authority.credentials("node-2")), &request)
        .await
        .unwrap();
    for mut stream in silent {
        assert_eq!(rest(&mut stream).await, b"");
    }
}

#[tokio::test]
async fn a_node_that_asks_or_reads_byte_by_byte_is_cut_off() {
    let authority = Authority::new();
    let host = Host::start_with(authority.credentials("node-1"), short()).await;
    let path = host.file("disk", 64 * MIB, &[(0, 64 * MIB)]);
    let digest = stage::digest_of(&path);
    host.offers.publish(digest, path).await.unwrap();
    let certificate = || Some(authority.certificate(&["node-2.agents.virga.dev"]));

    // A request that never ends, and a body that never does.
    let token = Token::random().unwrap();
    let body = format!(
        "POST /v1/offers/a/complete HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 500\r\n\r\n",
        token.expose()
    );
    for head in ["GET /v1/digests/".to_owned(), body] {
        let mut stream = connect(&host, &authority, certificate()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let begin = Instant::now();
        while stream.write_all(b"0").await.is_ok() && stream.flush().await.is_ok() {
            assert!(begin.elapsed() < Duration::from_secs(8), "{head}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    // A reader that takes a little, and then nothing more.
    let mut stream = connect(&host, &authority, certificate()).await.unwrap();
    let ask = format!(
        "GET /v1/digests/{}/data HTTP/1.1\r\nhost: x\r\nif-match: \"{digest}\"\r\nrange: bytes=0-{}\r\n\r\n",
        digest.hex(),
        64 * MIB - 1
    );
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut some = vec![0; 1024];
    stream.read_exact(&mut some).await.unwrap();
    assert!(some.starts_with(b"HTTP/1.1 206"), "{}", String::from_utf8_lossy(&some));
    sleep(Duration::from_secs(2)).await;
    let came = rest_or_reset(&mut stream).await;
    assert!(came < 64 * MIB, "it was all sent, {came}");
}

/// How many bytes come until the server closes, politely or not.
async fn rest_or_reset(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> u64 {
    let mut came = 0;
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(Ok(count @ 1..)) = timeout(Duration::from_secs(10), stream.read(&mut buffer)).await {
        came += count as u64;
    }
    came
}

#[tokio::test]
async fn a_node_with_too_many_connections_does_not_take_the_places_of_others() {
    let authority = Authority::new();
    let options = server::Options {
        idle: Duration::from_secs(20),
        ..short()
    };
    let host = Host::start_with(authority.credentials("node-1"), options).await;
    let path = host.file("disk", MIB, &[(0, MIB)]);
    let token = host.offer("a", &path, "node-2").await;
    let greedy = || Some(authority.certificate(&["node-6.agents.virga.dev"]));
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&host, &authority, greedy()).await.unwrap();
        stream.write_all(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'H');
        held.push(stream);
    }
    for _ in 0..6 {
        // The handshake may be over on this side before the server looks whose it is.
        if let Ok(mut stream) = connect(&host, &authority, greedy()).await {
            assert_eq!(rest_or_reset(&mut stream).await, 0);
        }
    }
    let there = tempfile::tempdir().unwrap();
    let request = request(host.source("a", &token), &there.path().join("disk"));
    receive(&stage::client(&authority.credentials("node-2")), &request)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_question_that_is_too_long_is_refused_before_it_is_read() {
    let authority = Authority::new();
    let host = Host::start(authority.credentials("node-1")).await;
    let path = host.file("disk", MIB, &[(0, MIB)]);
    let token = host.offer("a", &path, "node-2").await;
    let certificate = authority.certificate(&["node-2.agents.virga.dev"]);
    let mut stream = connect(&host, &authority, Some(certificate)).await.unwrap();
    let head = format!(
        "POST /v1/offers/a/verified HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\ncontent-length: 10000000000\r\n\r\n{}",
        token.expose(),
        "x".repeat(3000)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
}
