//! `cargo xtask demo`: from nothing to guests that answer, on this machine.
//!
//! Every step finds what an earlier run left and goes on from there, has a time limit, and says on failure what
//! `kubectl describe` says.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use serde_json::Value;
use virga_lab::progress::Progress;
use virga_lab::{Lab, Node, NodeError, Options};

use crate::image::Built;
use crate::{chain, command};

/// A task of ours that builds: everything from nothing, on two cores.
const BUILD_LIMIT: Duration = Duration::from_hours(1);
/// Guests boot under emulation, three at once on two cores.
const READY_LIMIT: Duration = Duration::from_mins(4);
const PAUSE: Duration = Duration::from_millis(500);
const ROLL_OUT: &str = "--timeout=180s";
const SYSTEM: &str = "virga-system";
const NAMESPACE: &str = "shop";
/// The sample whose console is shown, and that is asked for its page.
const SHOWN: &str = "web-1";
const CONSOLE_LINES: usize = 8;

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// How many nodes a new lab gets; one that is running is used as it is
    #[arg(long, default_value_t = 3)]
    nodes: u8,
}

/// What went wrong in the demo.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] virga_lab::Error),
    /// One of its nodes.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Another of our tasks.
    #[error("the step `cargo xtask {task}`")]
    Task {
        /// Its name and arguments.
        task: String,
        /// Why.
        source: command::Error,
    },
    /// A file.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An answer that is no JSON.
    #[error("reading {what}")]
    Json {
        /// What.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// Controller or agents did not come up.
    #[error("installing the chart: {why}\n\nkubectl describe pods --namespace {SYSTEM}:\n{story}")]
    Install {
        /// What Helm said.
        why: String,
        /// What kubectl says.
        story: String,
    },
    /// Objects did not become Ready.
    #[error("after {} s these are not Ready: {waiting}\n\n{story}", READY_LIMIT.as_secs())]
    NotReady {
        /// Which, and why.
        waiting: String,
        /// What kubectl says of the first.
        story: String,
    },
    /// The guest did not come up or does not answer.
    #[error("{SHOWN} runs, but {what} within {} s; its console ends with:\n{console}", READY_LIMIT.as_secs())]
    Silent {
        /// What did not happen.
        what: &'static str,
        /// The console's end.
        console: String,
    },
}

/// Runs the demo.
pub fn run(args: &Args) -> Result<(), Error> {
    let progress = Progress::start();
    progress.step("what the machine needs");
    task(&["deps"])?;
    let lab = lab(args.nodes)?;
    progress.step("images of the processes");
    let images = images(&lab, progress)?;
    progress.step("a guest to boot");
    put_guest_into(&lab.store_dir())?;
    progress.step("installing the chart, and waiting for controller and agents");
    install(&lab, &images)?;
    progress.step("applying config/samples");
    lab.kubectl(&["apply", "--filename", &in_checkout("config/samples")])?;
    wait_until_ready(&lab, progress)?;
    let shown = Shown::find(&lab)?;
    progress.step(&format!("waiting for {SHOWN}'s last word on its console"));
    shown.wait_until_up()?;
    let page = shown.page()?;
    progress.step("done");
    show(&lab, &shown, &page)
}

/// Runs another task of this program; what it says is shown.
fn task(words: &[&str]) -> Result<(), Error> {
    let program = env::current_exe().map_err(|source| io_error("finding", Path::new("this program"), source))?;
    command::show(Command::new(program).args(words), BUILD_LIMIT).map_err(|source| Error::Task {
        task: words.join(" "),
        source,
    })
}

/// A running lab as it is, with all its nodes on, or a new one.
fn lab(nodes: u8) -> Result<Lab, Error> {
    let lab = match Lab::attach() {
        Ok(lab) if !lab.nodes().is_empty() => lab,
        _ => Lab::up(Options { nodes })?,
    };
    for node in lab.nodes().iter().filter(|node| !node.is_on()) {
        lab.boot_node(&node.name())?;
    }
    Ok(lab)
}

/// Builds the images and loads what the nodes don't have.
fn images(lab: &Lab, progress: Progress) -> Result<Vec<Built>, Error> {
    let program = env::current_exe().map_err(|source| io_error("finding", Path::new("this program"), source))?;
    let folder = program.ancestors().nth(2).unwrap_or(Path::new(".")).join("image");
    task(&["image", "--out", &folder.to_string_lossy()])?;
    let list = folder.join("images.json");
    let text = fs::read(&list).map_err(|source| io_error("reading", &list, source))?;
    let images: Vec<Built> = serde_json::from_slice(&text).map_err(|source| Error::Json {
        what: "the list of images",
        source,
    })?;
    for built in &images {
        for node in lab.nodes() {
            let known = node.run(&["ctr", "--namespace=k8s.io", "images", "list", "--quiet"])?;
            if !known.lines().any(|name| name == built.image) {
                progress.step(&format!("loading {} into {}", built.image, node.name()));
                node.load_image(&built.archive)?;
            }
        }
    }
    Ok(images)
}

/// Under the name that the sample has, at once or not at all: a node may be reading the old one.
fn put_guest_into(store: &Path) -> Result<(), Error> {
    let (new, place) = (store.join(".guest.qcow2.new"), store.join("guest.qcow2"));
    task(&["guest", "--out", &new.to_string_lossy()])?;
    fs::rename(&new, &place).map_err(|source| io_error("storing", &place, source))
}

fn install(lab: &Lab, images: &[Built]) -> Result<(), Error> {
    let chart = in_checkout("charts/virga");
    let mut args: Vec<String> = [
        "upgrade",
        "--install",
        "virga",
        &chart,
        "--create-namespace",
        "--wait",
        ROLL_OUT,
        "--set=agent.domainType=qemu",
    ]
    .map(str::to_owned)
    .to_vec();
    args.push(format!("--namespace={SYSTEM}"));
    args.extend(images.iter().map(|built| {
        let process = built.name.trim_start_matches("virga-");
        format!("--set={process}.image={}", built.image)
    }));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let namespace = format!("--namespace={SYSTEM}");
    lab.helm(&args).map(drop).map_err(|error| Error::Install {
        why: chain(&error),
        story: said(lab, &["describe", "pods", &namespace]),
    })
}

/// What is not Ready yet of the samples: name, and why.
fn waiting(lab: &Lab) -> Result<Vec<(String, String)>, Error> {
    let objects = lab.kubectl(&["get", "--filename", &in_checkout("config/samples"), "--output=json"])?;
    let objects: Value = serde_json::from_str(&objects).map_err(|source| Error::Json {
        what: "the samples",
        source,
    })?;
    let objects = objects["items"].as_array().cloned().unwrap_or_default();
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

fn wait_until_ready(lab: &Lab, progress: Progress) -> Result<(), Error> {
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

/// What kubectl says, or why it does not: for errors, which must not have errors of their own.
fn said(lab: &Lab, args: &[&str]) -> String {
    lab.kubectl(args).unwrap_or_else(|error| chain(&error))
}

/// The Instance that is shown.
struct Shown {
    node: Node,
    uid: String,
    address: String,
}

impl Shown {
    fn find(lab: &Lab) -> Result<Self, Error> {
        let namespace = format!("--namespace={NAMESPACE}");
        let object = lab.kubectl(&["get", "instance", SHOWN, &namespace, "--output=json"])?;
        let object: Value = serde_json::from_str(&object).map_err(|source| Error::Json {
            what: "the Instance",
            source,
        })?;
        Ok(Self {
            node: lab.node(&text(&object["spec"]["nodeName"]))?,
            uid: text(&object["metadata"]["uid"]),
            address: text(&object["status"]["addresses"][0]["ip"]),
        })
    }

    fn console(&self) -> String {
        let log = self
            .node
            .file(&format!("/var/lib/virga/instances/{}/console.log", self.uid));
        let bytes = fs::read(log).unwrap_or_default();
        printable(&String::from_utf8_lossy(&bytes))
    }

    fn console_end(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().filter(|line| !line.trim().is_empty()).collect();
        let end: Vec<String> = lines[lines.len().saturating_sub(CONSOLE_LINES)..]
            .iter()
            .map(|line| format!("  | {line}"))
            .collect();
        end.join("\n")
    }

    fn wait_until_up(&self) -> Result<(), Error> {
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

    fn page(&self) -> Result<String, Error> {
        let url = format!("http://{}/", self.address);
        let page = self.node.run(&[
            "curl",
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "5",
            "--retry",
            "5",
            "--retry-connrefused",
            &url,
        ]);
        page.map_err(|_| Error::Silent {
            what: "gives no page to its node",
            console: self.console_end(),
        })
    }
}

fn show(lab: &Lab, shown: &Shown, page: &str) -> Result<(), Error> {
    let tables = lab.kubectl(&["get", "hypervisors", "--output=wide"])?;
    let instances = lab.kubectl(&["get", "instances", "--all-namespaces", "--output=wide"])?;
    let Shown { node, address, .. } = shown;
    let node = node.name();
    let bin = lab.kubeconfig().with_file_name("bin");
    println!("\n{tables}\n{instances}");
    println!("{SHOWN}'s console ends with\n{}\n", shown.console_end());
    println!("and its web server tells {node}\n  | {}\n", page.trim_end());
    println!("Now try");
    println!(
        "  export KUBECONFIG={} PATH={}:$PATH",
        lab.kubeconfig().display(),
        bin.display()
    );
    for (command, what) in [
        ("kubectl get virga -A", "everything there is"),
        ("kubectl describe instance web-1 -n shop", "one Instance's whole story"),
        ("kubectl explain instance.spec", "what an Instance can say"),
        (
            "kubectl patch instance web-2 -n shop --type merge -p '{\"spec\":{\"powerState\":\"Paused\"}}'",
            "hold it",
        ),
        ("kubectl delete -f config/samples", "and all of it is gone"),
    ] {
        println!("  {command:<50} # {what}");
    }
    println!("  cargo xtask lab exec {node} -- virsh list   # the domain behind it");
    println!("  cargo xtask lab exec {node} -- curl http://{address}/");
    println!("`make clean` takes the lab away.");
    Ok(())
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

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn in_checkout(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = fs::canonicalize(&root).unwrap_or(root);
    root.join(path).to_string_lossy().into_owned()
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        doing,
        path: path.to_owned(),
        source,
    }
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
