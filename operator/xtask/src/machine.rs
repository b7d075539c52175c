//! On what, when and how was it measured?

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::command;

/// What a reader needs to judge the numbers.
pub struct Machine {
    /// The day, in UTC.
    date: String,
    /// The processor's name.
    processor: String,
    /// How many of them.
    processors: usize,
    /// How much memory, in GiB.
    memory_gib: u64,
    /// The kernel.
    kernel: String,
    /// How many processes wanted to run, on average over the last minute: whether the machine was quiet.
    load: String,
    /// The task with its arguments.
    task: String,
}

impl Machine {
    /// This machine, today, running this task.
    pub fn this() -> Result<Self, command::Failed> {
        let cpuinfo = read("/proc/cpuinfo");
        let total = field(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = total
            .split_whitespace()
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0);
        let date = command::text(Command::new("date").args(["-u", "+%Y-%m-%d"]), Duration::from_secs(5));
        let arguments: Vec<String> = std::env::args().skip(1).collect();
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
            task: format!("cargo xtask {}", arguments.join(" ")),
        })
    }

    /// All of it in one sentence.
    pub fn sentence(&self) -> String {
        let Self {
            date,
            processor,
            processors,
            memory_gib,
            kernel,
            load,
            task,
        } = self;
        format!(
            "Measured on {date} with `{task}` on one machine: {processors} × {processor}, {memory_gib} GiB of memory, Linux \
             {kernel}. Its load average before was {load}: on a machine that has other work to do, times are longer."
        )
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first `name: value` of a text.
pub fn field(text: &str, name: &str) -> String {
    let named = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = named
        .filter(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim());
    values.next().unwrap_or("unknown").to_owned()
}
