//! What is on a node, as the node itself sees it: domains, disks, networks, consoles.

use std::collections::BTreeSet;
use std::fs;

use virga_lab::Node;

/// Everything on a node that Virga makes for Instances, Networks and Volumes. Images stay in the cache and don't count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Domains, running or not, by name.
    pub domains: BTreeSet<String>,
    /// libvirt networks.
    pub networks: BTreeSet<String>,
    /// Folders of Instances.
    pub instances: BTreeSet<String>,
    /// Files of Volumes.
    pub volumes: BTreeSet<String>,
    /// QEMU processes.
    pub processes: BTreeSet<u32>,
    /// Network interfaces of guests.
    pub taps: BTreeSet<String>,
}

impl Remains {
    /// What is on this node now.
    pub fn of(node: &Node) -> Self {
        Self {
            domains: words(node, &["virsh", "list", "--all", "--name"]),
            networks: words(node, &["virsh", "net-list", "--all", "--name"]),
            instances: entries(node, "/var/lib/virga/instances"),
            volumes: entries(node, "/var/lib/virga/volumes"),
            processes: qemu_processes(node),
            taps: words(node, &["ip", "-oneline", "-brief", "link"])
                .into_iter()
                .filter(|word| word.starts_with("vnet"))
                .collect(),
        }
    }

    /// What is new since: others, such as the demo, may have guests on the node.
    pub fn without(mut self, before: &Self) -> Self {
        self.domains.retain(|domain| !before.domains.contains(domain));
        self.networks.retain(|network| !before.networks.contains(network));
        self.instances.retain(|instance| !before.instances.contains(instance));
        self.volumes.retain(|volume| !before.volumes.contains(volume));
        self.processes.retain(|process| !before.processes.contains(process));
        self.taps.retain(|tap| !before.taps.contains(tap));
        self
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// Runs a program on a node, which must succeed; returns what it printed.
pub fn run(node: &Node, args: &[&str]) -> String {
    node.run(args)
        .unwrap_or_else(|error| panic!("{}", virga_lab::chain(&error)))
}

fn words(node: &Node, args: &[&str]) -> BTreeSet<String> {
    // virsh fails while libvirtd starts anew; whoever waits looks again, and must not take that for nothing at all.
    let said = node
        .run(args)
        .unwrap_or_else(|error| format!("?{}", error.to_string().replace(' ', "-")));
    said.split_whitespace().map(str::to_owned).collect()
}

fn entries(node: &Node, folder: &str) -> BTreeSet<String> {
    fs::read_dir(node.file(folder))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// The numbers of the node's QEMU processes that are guests. A libvirtd that is killed while it asks a QEMU what it can
/// leaves that one behind, and nobody may take it for a guest.
pub fn qemu_processes(node: &Node) -> BTreeSet<u32> {
    let processes = node.processes().unwrap_or_default().into_iter();
    processes
        .filter(|(pid, name)| name.starts_with("qemu-system") && is_guest(*pid))
        .map(|(pid, _)| pid)
        .collect()
}

fn is_guest(pid: u32) -> bool {
    let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split('\0').any(|argument| argument.starts_with("guest="))
}

/// What an Instance said on its serial console; empty before it said anything.
pub fn console(node: &Node, uid: &str) -> String {
    let log = node.file(&format!("/var/lib/virga/instances/{uid}/console.log"));
    let text = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

/// What a script in the guest printed after each `mark`, without the line's end. A shell may ask its terminal something
/// in between, so that no line of its own begins with the mark.
pub fn marked<'a>(console: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = console.lines().filter_map(move |line| line.split_once(mark));
    lines.map(|(_, rest)| rest.trim_end())
}

/// The page that a guest's web server gives to its node.
pub fn page(node: &Node, address: &str) -> Result<String, String> {
    let url = format!("http://{address}/");
    node.run(&["curl", "--silent", "--show-error", "--fail", "--max-time", "5", &url])
        .map_err(|error| virga_lab::chain(&error))
}
