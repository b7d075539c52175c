//! Are the samples Ready, and if not, what do they wait for?

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Instant;

use serde_json::Value;
use virga_lab::progress::Progress;
use virga_lab::{Administered, Lab};

use super::{Error, NAMESPACE, PAUSE, READY_LIMIT, in_checkout, said, text};
use crate::chain;

/// What is not Ready yet of the samples: name, and why.
fn waiting(lab: &Lab) -> Result<Vec<(String, String)>, Error> {
    let mut objects = Vec::new();
    for folder in ["config", "config/ovn"] {
        let found = lab.kubectl(&["get", "--kustomize", &in_checkout(folder), "--output=json"])?;
        let mut found: Value = serde_json::from_str(&found).map_err(|source| Error::Json {
            what: "the samples",
            source,
        })?;
        objects.extend(found["items"].as_array_mut().map(std::mem::take).unwrap_or_default());
    }
    let ours = objects.iter().filter(|object| object["status"].get("phase").is_none());
    Ok(ours
        .filter_map(|object| {
            let conditions = object["status"]["conditions"].as_array();
            let ready = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == "Ready"));
            let why = match ready {
                Some(ready) if ready["status"] == "True" => return None,
                Some(ready) => text(&ready["reason"]),
                None => "not looked at yet".to_owned(),
            };
            let kind = text(&object["kind"]).to_lowercase();
            Some((format!("{kind}/{}", text(&object["metadata"]["name"])), why))
        })
        .collect())
}

/// Waits, and says what for.
pub(super) fn wait_until_ready(lab: &Lab, progress: Progress) -> Result<(), Error> {
    let began = Instant::now();
    let mut line = Line::new(progress);
    loop {
        // The webhooks and the apiserver may be busy for a moment: only the time limit ends this.
        let waiting = match waiting(lab) {
            Ok(waiting) if waiting.is_empty() => {
                line.end();
                return Ok(());
            }
            Ok(waiting) => waiting,
            Err(error) => vec![("the samples".to_owned(), chain(&error))],
        };
        let short: Vec<String> = waiting.iter().map(|(name, why)| format!("{name} {why}")).collect();
        line.say(&format!("waiting for {}", short.join(", ")));
        if began.elapsed() > READY_LIMIT {
            line.end();
            let namespace = format!("--namespace={NAMESPACE}");
            let first = waiting.first().map(|(name, _)| name.clone()).unwrap_or_default();
            return Err(Error::NotReady {
                waiting: short.join(", "),
                story: format!(
                    "kubectl describe {first} {namespace}:\n{}",
                    said(lab, &["describe", &first, &namespace])
                ),
            });
        }
        thread::sleep(PAUSE);
    }
}

/// A line that is written over on a terminal, and elsewhere written anew when it changes.
struct Line {
    progress: Progress,
    terminal: bool,
    last: String,
}

impl Line {
    fn new(progress: Progress) -> Self {
        Self {
            progress,
            terminal: io::stderr().is_terminal(),
            last: String::new(),
        }
    }

    fn say(&mut self, words: &str) {
        if self.terminal {
            let short: String = words.chars().take(100).collect();
            eprint!("\r\x1b[K[{:6.1} s] {short}", self.progress.elapsed().as_secs_f64());
            // It is decoration.
            let _ = io::stderr().flush();
        } else if words != self.last {
            self.progress.step(words);
        }
        words.clone_into(&mut self.last);
    }

    fn end(&self) {
        if self.terminal && !self.last.is_empty() {
            eprintln!();
        }
    }
}
