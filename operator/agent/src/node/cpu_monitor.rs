//! How busy are the host's CPUs? Measured seldom, because each new value is a write.

use std::time::Duration;

use tokio::time::Instant;
use virga_crds::HostMetric;

/// How long values stay as they are.
const EVERY: Duration = Duration::from_mins(1);

/// Measures the host's CPUs from `/proc/stat`, which is the whole host's in a container too (Nova's monitor
/// `cpu.virt_driver`; its percentages are fractions of 1 as well).
#[derive(Debug, Default)]
pub struct CpuMonitor {
    before: Option<(Instant, Times)>,
    metrics: Vec<HostMetric>,
}

/// What all CPUs together have spent since the host was booted, in the kernel's ticks (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    user: u64,
    kernel: u64,
    idle: u64,
    iowait: u64,
}

impl CpuMonitor {
    /// The values of the last full minute; none in the first.
    pub fn metrics(&mut self, now: Instant) -> Vec<HostMetric> {
        if self.before.is_none_or(|(at, _)| now.duration_since(at) >= EVERY) {
            match std::fs::read_to_string("/proc/stat") {
                Ok(text) => self.measure(now, &text),
                Err(error) => tracing::warn!(%error, "reading /proc/stat"),
            }
        }
        self.metrics.clone()
    }

    fn measure(&mut self, now: Instant, text: &str) {
        let Some(after) = Times::read(text) else {
            tracing::warn!("/proc/stat has no line of all CPUs");
            return;
        };
        if let Some((_, before)) = self.before {
            self.metrics = after.since(before);
        }
        self.before = Some((now, after));
    }
}

impl Times {
    fn read(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let mut ticks = line.split_whitespace().map_while(|word| word.parse::<u64>().ok());
        let mut next = || ticks.next();
        let (user, nice, system, idle) = (next()?, next()?, next()?, next()?);
        let (iowait, irq, softirq, steal) = (next()?, next()?, next()?, next()?);
        Some(Self {
            // Guests count as user time already.
            user: user + nice,
            kernel: system + irq + softirq + steal,
            idle,
            iowait,
        })
    }

    /// The share of each kind of time since before, in hundredths; nothing when no time has passed.
    fn since(self, before: Self) -> Vec<HostMetric> {
        let spent = |of: fn(Self) -> u64| of(self).saturating_sub(of(before));
        let (user, kernel) = (spent(|t| t.user), spent(|t| t.kernel));
        let (idle, iowait) = (spent(|t| t.idle), spent(|t| t.iowait));
        let all = user + kernel + idle + iowait;
        if all == 0 {
            return Vec::new();
        }
        let share = |name: &str, part: u64| {
            let hundredths = (part * 100 + all / 2) / all;
            HostMetric {
                name: name.into(),
                value: format!("{}.{:02}", hundredths / 100, hundredths % 100),
            }
        };
        vec![
            share("cpu.idle.percent", idle),
            share("cpu.iowait.percent", iowait),
            share("cpu.kernel.percent", kernel),
            share("cpu.percent", user + kernel),
            share("cpu.user.percent", user),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "cpu  100 0 50 800 50 0 0 0 30 0\ncpu0 1 2 3\n";
    const AFTER: &str = "cpu  150 50 75 1600 75 5 10 10 60 0\n";

    #[tokio::test(start_paused = true)]
    async fn shares_of_the_last_minute_are_told_and_stay_until_the_next() {
        let mut monitor = CpuMonitor::default();
        monitor.measure(Instant::now(), BEFORE);
        assert!(monitor.metrics.is_empty());
        monitor.measure(Instant::now() + EVERY, AFTER);
        let told: Vec<_> = monitor
            .metrics
            .iter()
            .map(|metric| (metric.name.as_str(), metric.value.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("cpu.idle.percent", "0.82"),
                ("cpu.iowait.percent", "0.03"),
                ("cpu.kernel.percent", "0.05"),
                ("cpu.percent", "0.15"),
                ("cpu.user.percent", "0.10"),
            ]
        );
        let kept = monitor.metrics(Instant::now() + EVERY + EVERY / 2);
        assert_eq!(kept, monitor.metrics, "nothing is read before a minute has passed");
    }

    #[test]
    fn what_the_kernel_does_not_say_is_not_told() {
        assert_eq!(Times::read("cpu0 1 2 3\n"), None);
        assert_eq!(Times::read("cpu 1 2 3\n"), None);
        let times = Times::read(BEFORE).unwrap();
        assert!(times.since(times).is_empty(), "no time has passed");
    }

    #[test]
    fn this_host_can_be_measured() {
        assert!(Times::read(&std::fs::read_to_string("/proc/stat").unwrap()).is_some());
    }
}
