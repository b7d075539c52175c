//! How much processor time and memory has a process taken?

use std::fs;
use std::time::Duration;

/// Clock ticks a second in /proc: fixed for user space on Linux (`sysconf(_SC_CLK_TCK)`).
const TICKS: u32 = 100;

/// User and system time since its start; nothing of a process that has ended. See proc_pid_stat(5).
pub fn time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    ticks(&stat).map_or(Duration::ZERO, |ticks| Duration::from_secs(ticks) / TICKS)
}

/// The same of all processes whose name begins so and that are in this network, as /proc/PID/ns/net names it.
pub fn time_of(name: &str, network: &str) -> Duration {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of_name = pids.filter(|pid| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let inside = fs::read_link(format!("/proc/{pid}/ns/net"));
        comm.starts_with(name) && inside.is_ok_and(|inside| inside.as_os_str() == network)
    });
    of_name.map(time).sum()
}

/// How long processors have been idle since the machine's start, all together. See proc_stat(5).
pub fn idle() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let idle = stat
        .split_whitespace()
        .nth(4)
        .and_then(|ticks| ticks.parse::<u64>().ok());
    idle.map_or(Duration::ZERO, |ticks| Duration::from_secs(ticks) / TICKS)
}

/// `Pss` of proc_pid_smaps(5), in KiB; 0 when it has ended.
pub fn pss_kib(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    crate::bench::memory::pss_kib(&rollup).unwrap_or(0)
}

/// The 14th and 15th field; the second, in parentheses, may have spaces in it.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_does_not_shift_the_fields() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks(""), None);
    }
}
