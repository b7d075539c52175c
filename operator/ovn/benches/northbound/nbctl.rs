//! The same transaction by OVN's own programs.

use std::{
    io::{BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Deserializer, Value, json};
use virga_ovsdb::operation::Operation;

/// One ovn-nbctl that creates the same rows in one transaction.
pub fn command(socket: &Path, operations: &[Operation]) -> Command {
    let mut command = Command::new("ovn-nbctl");
    command.arg(format!("--db=unix:{}", socket.display()));
    for operation in operations {
        let json = operation.to_json();
        // What only makes sure that nobody else has written meanwhile.
        if json["op"] != "insert" {
            assert_eq!(json["op"], "wait", "an empty database takes rows only: {json}");
            continue;
        }
        command.arg("--");
        if let Some(name) = json["uuid-name"].as_str() {
            command.arg(format!("--id=@{name}"));
        }
        command.args(["create", json["table"].as_str().unwrap()]);
        for (column, value) in json["row"].as_object().unwrap() {
            let text = plain(value);
            if !text.is_empty() {
                command.arg(format!("{column}={text}"));
            }
        }
    }
    command
}

/// How long it takes from its start to its end.
pub fn run(mut command: Command) -> Duration {
    let began = Instant::now();
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    assert!(ended.success());
    began.elapsed()
}

/// How long the server takes for the very same transaction, from its first byte to the answer's last.
pub fn transact(socket: &Path, operations: &[Operation]) -> Duration {
    let mut params = vec![Value::from("OVN_Northbound")];
    params.extend(operations.iter().map(Operation::to_json));
    let request = json!({"method": "transact", "params": params, "id": 1}).to_string();
    let mut stream = UnixStream::connect(socket).unwrap();
    let began = Instant::now();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answers = Deserializer::from_reader(BufReader::new(&stream)).into_iter::<Value>();
    let answer = answers.next().unwrap().unwrap();
    let took = began.elapsed();
    assert!(answer["error"].is_null(), "{answer}");
    took
}

/// A value of RFC 7047 as ovs-vsctl(8) writes it.
fn plain(value: &Value) -> String {
    let Some([kind, content]) = value.as_array().map(Vec::as_slice) else {
        return value.to_string();
    };
    match kind.as_str().unwrap() {
        "named-uuid" => format!("@{}", content.as_str().unwrap()),
        "uuid" => content.as_str().unwrap().to_owned(),
        "set" => {
            let atoms: Vec<String> = content.as_array().unwrap().iter().map(plain).collect();
            atoms.join(",")
        }
        "map" => {
            let pairs = content.as_array().unwrap().iter();
            let pairs: Vec<String> = pairs
                .map(|pair| format!("{}={}", plain(&pair[0]), plain(&pair[1])))
                .collect();
            pairs.join(",")
        }
        other => panic!("a value of the kind {other}"),
    }
}
