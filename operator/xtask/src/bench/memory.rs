//! How much memory do our processes take in the lab?

use std::fs;

use virga_lab::Lab;

use super::Error;

/// The kernel's names of our processes: at most 15 characters.
const NAMES: [(&str, &str); 2] = [("virga-controlle", "virga-controller"), ("virga-agent", "virga-agent")];

/// What the processes take at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// How many Instances there are.
    pub instances: usize,
    /// Each process: its name, and its proportional set size in KiB.
    pub processes: Vec<(&'static str, u64)>,
}

impl Memory {
    /// Now.
    pub fn now(lab: &Lab, instances: usize) -> Result<Self, Error> {
        let mut processes = Vec::new();
        for node in lab.nodes() {
            for (pid, short) in node.processes()? {
                if let Some((_, name)) = NAMES.iter().find(|(known, _)| *known == short) {
                    // It may just have ended.
                    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
                    processes.extend(pss_kib(&rollup).map(|kib| (*name, kib)));
                }
            }
        }
        Ok(Self { instances, processes })
    }

    /// Least and most of the processes of a name, in KiB; nothing when there are none.
    pub fn range(&self, name: &str) -> Option<(u64, u64)> {
        let of_name = || self.processes.iter().filter(|(n, _)| *n == name).map(|(_, kib)| *kib);
        Some((of_name().min()?, of_name().max()?))
    }
}

/// `Pss` of proc_pid_smaps(5).
pub fn pss_kib(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proportional_size_is_read_and_not_its_parts() {
        let rollup =
            "55d0-7ff0 ---p 00000000 00:00 0  [rollup]\nRss:  9000 kB\nPss:            8123 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(pss_kib(rollup), Some(8123));
        assert_eq!(pss_kib(""), None);
    }
}
