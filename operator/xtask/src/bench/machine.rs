//! On what, and when, was it measured?

use std::fs;
use std::process::Command;
use std::time::Duration;

use virga_lab::Lab;

use super::Error;
use crate::command;

/// What a reader needs to judge the numbers.
pub struct Machine {
    /// The day, in UTC.
    pub date: String,
    /// The processor's name.
    pub processor: String,
    /// How many of them.
    pub processors: usize,
    /// How much memory, in GiB.
    pub memory_gib: u64,
    /// The kernel.
    pub kernel: String,
    /// The lab's nodes.
    pub nodes: usize,
    /// What `virsh version` says of the hypervisor.
    pub hypervisor: String,
    /// How many processes wanted to run, on average over the last minute: whether the machine was quiet.
    pub load: String,
}

impl Machine {
    /// This machine, today.
    pub fn this(lab: &Lab) -> Result<Self, Error> {
        let cpuinfo = read("/proc/cpuinfo");
        let total = field(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = total
            .split_whitespace()
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0);
        let date = command::text(Command::new("date").args(["-u", "+%Y-%m-%d"]), Duration::from_secs(5));
        let nodes = lab.nodes();
        let versions = match nodes.first() {
            Some(node) => node.run(&["virsh", "version"])?,
            None => String::new(),
        };
        Ok(Self {
            date: date.map_err(command::failed("asking for the date"))?.trim().to_owned(),
            processor: field(&cpuinfo, "model name"),
            processors: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            memory_gib: (kib + (1 << 19)) >> 20,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg")
                .split_whitespace()
                .next()
                .unwrap_or("unknown")
                .to_owned(),
            nodes: nodes.len(),
            hypervisor: ["Using library", "Running hypervisor"]
                .map(|name| field(&versions, name))
                .join(", "),
        })
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first `name: value` of a text.
fn field(text: &str, name: &str) -> String {
    let named = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = named
        .filter(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim());
    values.next().unwrap_or("unknown").to_owned()
}
