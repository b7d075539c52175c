//! What does the guest that is shown say, on its console and as a web server?

use std::fs;
use std::thread;
use std::time::Instant;

use serde_json::Value;
use virga_lab::{Administered, Lab, Node, Ovn};

use super::{Error, NAMESPACE, PAUSE, READY_LIMIT, SHOWN, text};

const CONSOLE_LINES: usize = 8;

/// The Instance that is shown.
pub(super) struct Shown {
    pub(super) node: Node,
    uid: String,
    /// Its address outside.
    pub(super) floating: String,
}

impl Shown {
    pub(super) fn find(lab: &Lab) -> Result<Self, Error> {
        let namespace = format!("--namespace={NAMESPACE}");
        let object = lab.kubectl(&["get", "instance", SHOWN, &namespace, "--output=json"])?;
        let object: Value = serde_json::from_str(&object).map_err(|source| Error::Json {
            what: "the Instance",
            source,
        })?;
        let floating = [
            "get",
            "floatingip",
            SHOWN,
            &namespace,
            "--output=jsonpath={.status.address}",
        ];
        Ok(Self {
            node: lab.node(&text(&object["spec"]["nodeName"]))?,
            uid: text(&object["metadata"]["uid"]),
            floating: lab.kubectl(&floating)?,
        })
    }

    fn console(&self) -> String {
        let log = self
            .node
            .file(&format!("/var/lib/virga/instances/{}/console.log", self.uid));
        let bytes = fs::read(log).unwrap_or_default();
        printable(&String::from_utf8_lossy(&bytes))
    }

    /// The last lines of its console.
    pub(super) fn console_end(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().filter(|line| !line.trim().is_empty()).collect();
        let end: Vec<String> = lines[lines.len().saturating_sub(CONSOLE_LINES)..]
            .iter()
            .map(|line| format!("  | {line}"))
            .collect();
        end.join("\n")
    }

    /// Waits for its last word on its console.
    pub(super) fn wait_until_up(&self) -> Result<(), Error> {
        let began = Instant::now();
        while !self.console().contains("GUEST-READY") {
            if began.elapsed() > READY_LIMIT {
                return Err(Error::Silent {
                    what: "does not say GUEST-READY",
                    console: self.console_end(),
                });
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// What its web server gives to who asks from outside.
    pub(super) fn page(&self, ovn: &Ovn) -> Result<String, Error> {
        let url = format!("http://{}/", self.floating);
        let curl = ["curl", "--silent", "--show-error", "--fail", "--max-time", "5"];
        // The first packets find switches that learn where to send them.
        let again = ["--retry", "5", "--retry-all-errors", &url];
        let mut command = ovn.outside(&[&curl[..], &again].concat())?;
        let answer = command.output().map_err(crate::file::failed("running", "curl"))?;
        if answer.status.success() {
            return Ok(printable(&String::from_utf8_lossy(&answer.stdout)));
        }
        Err(Error::Silent {
            what: "gives no page to the outside",
            console: self.console_end(),
        })
    }
}

/// Without control characters and sequences: a guest writes what it likes, and none of it may command a terminal.
fn printable(text: &str) -> String {
    let mut clean = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\x1b' {
            // ECMA-48: ESC [ parameters, and one final character from @ to ~.
            if characters.next() == Some('[') {
                let _ = characters.find(|end| ('@'..='~').contains(end));
            }
        } else if character == '\n' || !character.is_control() {
            clean.push(character);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_can_not_command_the_terminal() {
        assert_eq!(printable("\x1b[2J\x1b[1;31mred\x07\r\nGUEST\x1b[6n"), "red\nGUEST");
        assert_eq!(printable("\x1b]0;title\x07"), "0;title");
    }
}
