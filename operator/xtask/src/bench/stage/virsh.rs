//! What does the same take without Virga? virsh, as a person or a script runs it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Error;
use super::node::Node;
use crate::command;

/// For one call; nothing that is measured takes as long.
const LIMIT: &str = "60";

/// Runs commands in one virsh, and gives back how long each took by virsh's own clock: without its start and connection.
pub fn timed(node: &Node, script: &str) -> Result<Duration, Error> {
    let said = said(node, &["--timing", script])?;
    super::super::libvirt::took(&said, script.split(';').count())
        .ok_or_else(|| Error::unreadable("virsh's timing", &said))
}

/// What virsh says.
pub fn said(node: &Node, arguments: &[&str]) -> Result<String, Error> {
    let limit = Duration::from_mins(1);
    let ran = command::text(
        Command::new("virsh").args(["--connect", &node.uri()]).args(arguments),
        limit,
    );
    ran.map_err(command::failed("asking libvirt without Virga"))
        .map_err(Error::from)
}

/// How long a shell script takes as a whole, with the start of each of its programs; `$URI` is libvirt's.
pub fn script(node: &Node, text: &str) -> Result<Duration, Error> {
    let began = Instant::now();
    let ran = Command::new("timeout")
        .args([LIMIT, "sh", "-ec", text])
        .env("URI", node.uri())
        .stdin(Stdio::null())
        .output();
    let output = ran.map_err(crate::file::failed("running", "sh"))?;
    let took = began.elapsed();
    if output.status.success() {
        Ok(took)
    } else {
        Err(Error::unreadable(
            "what a script says",
            &String::from_utf8_lossy(&output.stderr),
        ))
    }
}
