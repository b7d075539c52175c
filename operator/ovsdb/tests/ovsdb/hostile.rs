//! Servers that mean no good: nothing that they send makes us fall, hang, or grow without bound.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};
use virga_ovsdb::{
    Client, Options,
    frame::{Limits, Splitter},
    remote::Remote,
};

use crate::server::{LONG, SCHEMA, down, options};

/// A server that does to each connection what a function says.
struct Bad {
    _folder: TempDir,
    socket: PathBuf,
    task: JoinHandle<()>,
}

impl Bad {
    fn start<F: Future<Output = ()> + Send>(serve: impl Fn(UnixStream) -> F + Send + 'static) -> Self {
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream).await;
            }
        });
        Self {
            _folder: folder,
            socket,
            task,
        }
    }

    fn client(&self) -> Client {
        Client::start(Options {
            request_timeout: Duration::from_millis(500),
            limits: Limits {
                length: 100_000,
                depth: 16,
            },
            ..options(vec![Remote::Unix(self.socket.clone())])
        })
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Writes until the client has had enough.
async fn pour(mut stream: UnixStream, bytes: Vec<u8>) {
    while stream.write_all(&bytes).await.is_ok() {}
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_the_connection() {
    for (bytes, words) in [
        (&b"\x16\x03\x01garbage"[..], "begins with byte 0x16"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "begins with byte 0x48"),
        (b"{nonsense}", "parsing a message"),
        (b"{\"id\":null}", "expected a request"),
        (b"{\"a\":[[[[[[[[[[[[[[[[[[[[", "nests deeper than 16"),
        (
            b"{\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "longer than 100000",
        ),
    ] {
        let bytes = bytes.to_vec();
        // The last one is endless: what follows the first quote never ends the string.
        let endless = words.starts_with("longer");
        let bad = Bad::start(move |stream| {
            let bytes = bytes.clone();
            async move {
                let mut stream = stream;
                let _ = stream.write_all(&bytes).await;
                if endless {
                    pour(stream, vec![b'a'; 4096]).await;
                } else {
                    // Kept open: the client is the one who leaves.
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            }
        });
        down(&bad.client(), words).await;
    }
}

#[tokio::test]
async fn a_server_that_asks_and_asks_and_does_not_read_is_left() {
    let echo = json!({"id": "echo", "method": "echo", "params": ["x".repeat(1000)]});
    let bad = Bad::start(move |stream| pour(stream, echo.to_string().into_bytes()));
    down(&bad.client(), "does not read").await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_left_in_time() {
    let bad = Bad::start(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    down(&bad.client(), "no answer within 500 ms").await;
}

#[tokio::test]
async fn a_server_that_drips_for_ever_is_left_in_time() {
    let bad = Bad::start(|mut stream| async move {
        let _ = stream.write_all(b"{").await;
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        while stream.write_all(b" ").await.is_ok() {
            pace.tick().await;
        }
    });
    down(&bad.client(), "no answer within 500 ms").await;
}

/// Answers the requests of a beginning properly, and then the first monitor of the database, and all after it, with
/// what is given.
async fn play(mut stream: UnixStream, initial: Json, after: Vec<Json>) {
    let schema: Json = serde_json::from_str(&std::fs::read_to_string(SCHEMA).unwrap()).unwrap();
    let mut splitter = Splitter::new(Limits::default());
    loop {
        while let Ok(Some(frame)) = splitter.next_frame() {
            let request: Json = serde_json::from_slice(&frame).unwrap();
            let result = match request["method"].as_str().unwrap() {
                "list_dbs" => json!(["OVN_Northbound"]),
                "get_schema" => schema.clone(),
                "monitor_cond_since" => initial.clone(),
                _ => continue,
            };
            let mut bytes = json!({"id": request["id"], "result": result, "error": null}).to_string();
            if request["method"] == "monitor_cond_since" {
                bytes.extend(after.iter().map(Json::to_string));
            }
            if stream.write_all(bytes.as_bytes()).await.is_err() {
                return;
            }
        }
        match stream.read_buf(splitter.buffer()).await {
            Ok(1..) => {}
            _ => return,
        }
    }
}

pub fn zero() -> Json {
    json!("00000000-0000-0000-0000-000000000000")
}

#[tokio::test]
async fn rows_that_do_not_fit_end_the_connection_and_name_table_and_column() {
    let uuid = "11111111-1111-4111-8111-111111111111";
    let start = |rows: Json| json!([false, zero(), rows]);
    let row = |row: Json| start(json!({"Logical_Switch": {uuid: row}}));
    for (initial, words) in [
        (json!({}), "found, transaction and tables"),
        (json!([false, "x", {}]), "a transaction's UUID"),
        (start(json!([])), "expected an object"),
        (start(json!({"Nonsense": {uuid: {"initial": {}}}})), "not watched"),
        (start(json!({"Logical_Switch": {"1": {"initial": {}}}})), "a row's UUID"),
        (row(json!({"initial": {}, "delete": null})), "a row's change"),
        (
            row(json!({"initial": {"name": 3}})),
            "reading column Logical_Switch.name",
        ),
        (
            row(json!({"initial": {"name": "a".repeat(10), "oops": 1}})),
            "column Logical_Switch",
        ),
        (row(json!({"modify": {"name": "a"}})), "which is not here"),
        (row(json!({"delete": null})), "which is not here"),
        (
            row(json!({"initial": {"ports": ["set", [["uuid", uuid], ["uuid", uuid]]]}})),
            "is there twice",
        ),
        (
            row(json!({"initial": {"ports": ["set", [["set", []]]]}})),
            "expected a uuid",
        ),
        (
            row(json!({"initial": {"other_config": ["map", [["a"]]]}})),
            "a pair of a map",
        ),
    ] {
        let bad = Bad::start(move |stream| play(stream, initial.clone(), Vec::new()));
        let client = bad.client();
        down(&client, words).await;
        assert!(client.read(virga_ovsdb::replica::Replica::is_empty), "{words}");
    }
}

#[tokio::test]
async fn a_bad_change_spoils_nothing_that_was_there_before() {
    let uuid = "11111111-1111-4111-8111-111111111111";
    let initial = json!([false, zero(), {"Logical_Switch": {uuid: {"initial": {"name": "net"}}}}]);
    let update = |rows: Json| json!({"id": null, "method": "update3", "params": ["virga", zero(), rows]});
    let bad_row = update(json!({"Logical_Switch": {uuid: {"modify": {"name": true}}}}));
    let other = json!({"id": null, "method": "update3", "params": ["other", zero(), {}]});
    let unasked = json!({"id": 77, "result": [], "error": null});
    let noise = json!({"id": null, "method": "noise", "params": []});
    let bad = Bad::start(move |stream| {
        // Of what is not ours nothing is made; then comes the bad one.
        let after = [&noise, &other, &unasked, &bad_row].map(Clone::clone).to_vec();
        play(stream, initial.clone(), after)
    });
    let client = bad.client();
    down(&client, "reading column Logical_Switch.name").await;
    client.read(|replica| assert_eq!(replica.rows("Logical_Switch").next().unwrap().name(), Some("net")));
    tokio::time::timeout(LONG, client.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_too_old_says_what_it_lacks() {
    let old = json!({"name": "OVN_Northbound", "version": "0.1.0", "tables": {
        "Logical_Switch": {"columns": {"name": {"type": "string"}}, "isRoot": true}}});
    let bad = Bad::start(move |mut stream| {
        let old = old.clone();
        async move {
            let mut splitter = Splitter::new(Limits::default());
            while matches!(stream.read_buf(splitter.buffer()).await, Ok(1..)) {
                while let Ok(Some(frame)) = splitter.next_frame() {
                    let request: Json = serde_json::from_slice(&frame).unwrap();
                    let result = if request["method"] == "list_dbs" {
                        json!(["OVN_Northbound"])
                    } else {
                        old.clone()
                    };
                    let reply = json!({"id": request["id"], "result": result, "error": null});
                    let _ = stream.write_all(reply.to_string().as_bytes()).await;
                }
            }
        }
    });
    let error = down(&bad.client(), "newer OVN is needed").await;
    assert!(
        error.contains("table ACL") && error.contains("column Logical_Switch.ports"),
        "{error}"
    );
    assert!(!error.contains("Load_Balancer_Group"), "{error}");
}

#[tokio::test]
async fn older_servers_are_asked_in_older_ways() {
    for known in ["monitor_cond", "monitor"] {
        let uuid = "11111111-1111-4111-8111-111111111111";
        let schema: Json = serde_json::from_str(&std::fs::read_to_string(SCHEMA).unwrap()).unwrap();
        let bad = Bad::start(move |mut stream| {
            let schema = schema.clone();
            async move {
                let mut splitter = Splitter::new(Limits::default());
                while matches!(stream.read_buf(splitter.buffer()).await, Ok(1..)) {
                    while let Ok(Some(frame)) = splitter.next_frame() {
                        let request: Json = serde_json::from_slice(&frame).unwrap();
                        let rows = |kind: &str, name: &str| json!({"Logical_Switch": {uuid: {kind: {"name": name}}}});
                        let (kinds, news) = if known == "monitor" {
                            (["new", "new"], "update")
                        } else {
                            (["initial", "modify"], "update2")
                        };
                        let method = request["method"].as_str().unwrap();
                        let result = match method {
                            "list_dbs" => Ok(json!(["OVN_Northbound"])),
                            "get_schema" => Ok(schema.clone()),
                            method if method == known => Ok(rows(kinds[0], "net")),
                            _ => Err(json!({"error": "unknown method", "details": ""})),
                        };
                        let mut reply = match &result {
                            Ok(result) => json!({"id": request["id"], "result": result, "error": null}),
                            Err(error) => json!({"id": request["id"], "result": null, "error": error}),
                        }
                        .to_string();
                        if method == known {
                            let params = json!(["virga", rows(kinds[1], "renamed")]);
                            reply += &json!({"id": null, "method": news, "params": params}).to_string();
                        }
                        let _ = stream.write_all(reply.as_bytes()).await;
                    }
                }
            }
        });
        let client = bad.client();
        let mut changes = client.changes();
        crate::server::replica(&client, &mut changes, |replica| {
            replica
                .rows("Logical_Switch")
                .next()
                .is_some_and(|row| row.name() == Some("renamed"))
        })
        .await;
    }
}
