//! What the lab's tests share: one lab at a time, and a count of what a lab leaves behind.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use virga_lab::{FOLDER_VARIABLE, Lab, Options};

/// The machine has room for one lab: the tests that make one take turns, whatever runs them. The lab is removed at the
/// end, also after a failure, and must leave nothing.
pub struct Turn {
    _lock: File,
    before: BTreeSet<String>,
    /// The ids and namespaces of the labs of this turn. Others may make control planes and namespaces meanwhile.
    seen: RefCell<BTreeSet<String>>,
}

impl Turn {
    pub fn take() -> Self {
        let lock = File::open(env!("CARGO_MANIFEST_DIR")).unwrap();
        lock.lock().unwrap();
        Lab::down().unwrap();
        Self {
            _lock: lock,
            before: machine(),
            seen: RefCell::default(),
        }
    }

    /// A lab without OVN.
    pub fn lab(&self, nodes: u8) -> Lab {
        self.lab_with(Options { nodes, ovn: false })
    }

    pub fn lab_with(&self, options: Options) -> Lab {
        let lab = Lab::up(options).unwrap_or_else(|error| panic!("{}", virga_lab::chain(&error)));
        self.note();
        lab
    }

    /// Looks at the lab that is there, to know later whether something is left of it. Returns the names of its processes.
    pub fn note(&self) -> Vec<String> {
        let folder = env::var_os(FOLDER_VARIABLE).unwrap_or_else(|| "/var/lib/virga-lab".into());
        let Ok(record) = fs::read(PathBuf::from(folder).join("lab.json")) else {
            return Vec::new();
        };
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        let id = format!("VIRGA_LAB_ID={}", record["id"].as_str().unwrap());
        let ours = namespaces(Path::new("/proc/self"));
        let mut names = Vec::new();
        for process in processes()
            .into_iter()
            .filter(|process| environment(process).contains(&id))
        {
            names.push(
                fs::read_to_string(process.join("comm"))
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
            );
            self.seen
                .borrow_mut()
                .extend(namespaces(&process).difference(&ours).cloned());
        }
        self.seen.borrow_mut().insert(id);
        names
    }

    /// The machine is as it was before.
    pub fn assert_nothing_left(&self) {
        let seen = self.seen.borrow();
        assert!(!seen.is_empty(), "nothing is known of a lab that could be left");
        eventually("nothing is left of the lab", || {
            let mut left: Vec<_> = machine().difference(&self.before).cloned().collect();
            for process in processes() {
                let environment = environment(&process);
                left.extend(seen.iter().filter(|mark| environment.contains(*mark)).cloned());
                left.extend(namespaces(&process).intersection(&seen).cloned());
            }
            so(left.is_empty(), format!("{left:#?}"))
        });
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let removed = Lab::down();
        if !thread::panicking() {
            removed.unwrap();
            self.assert_nothing_left();
        }
    }
}

fn processes() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    entries.filter(|path| path.join("environ").exists()).collect()
}

fn environment(process: &Path) -> String {
    String::from_utf8_lossy(&fs::read(process.join("environ")).unwrap_or_default()).into_owned()
}

fn namespaces(process: &Path) -> BTreeSet<String> {
    let links = ["net", "pid", "mnt", "uts"].map(|kind| fs::read_link(process.join("ns").join(kind)));
    links
        .into_iter()
        .flatten()
        .map(|namespace| namespace.display().to_string())
        .collect()
}

/// What a lab adds to besides processes and namespaces.
fn machine() -> BTreeSet<String> {
    let said = |program: &str, args: &[&str]| {
        String::from_utf8(Command::new(program).args(args).output().unwrap().stdout).unwrap()
    };
    let mut found = BTreeSet::new();
    for (kind, list) in [
        ("mount", fs::read_to_string("/proc/self/mountinfo").unwrap()),
        ("link", said("ip", &["-oneline", "-brief", "link"])),
        ("route", said("ip", &["route", "show", "table", "all"])),
        ("cgroup", said("find", &["/sys/fs/cgroup", "-type", "d"])),
    ] {
        found.extend(list.lines().map(|line| format!("{kind} {line}")));
    }
    for folder in ["/etc", "/run", "/var/lib", "/var/log", "/var/cache", "/opt"] {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        found.extend(entries.map(|entry| format!("file {}", entry.path().display())));
    }
    found
}

/// Looks until it is so; fails with the last reason after a minute.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(reason) if began.elapsed() > Duration::from_mins(1) => panic!("{what}: {reason}"),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// For `eventually`: whether it is so.
pub fn so(yes: bool, otherwise: impl Into<String>) -> Result<(), String> {
    if yes { Ok(()) } else { Err(otherwise.into()) }
}
