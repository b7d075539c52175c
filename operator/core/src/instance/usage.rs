//! From counters to what a user should see of them.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use virga_crds::{Bytes, InstanceUsage};

/// How long what was told stands in any case.
const STANDS: Duration = Duration::from_mins(5);
/// Rates are told in steps of this: what comes in a minute from a time server is noise.
const STEP: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What a domain has used since it was started, and what it has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Nanoseconds of processors.
    pub cpu_ns: u64,
    /// Bytes of memory that the guest uses, by its own account.
    pub memory: Option<u64>,
    /// Bytes of the host's memory.
    pub resident: Option<u64>,
    /// Bytes that its disks take.
    pub disk: Option<u64>,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
}

/// What was used between two looks; nothing when the domain was started in between, or no time has passed.
pub fn usage(before: &Counters, after: &Counters, passed: Duration, now: Timestamp) -> Option<InstanceUsage> {
    let nanos = u64::try_from(passed.as_nanos()).ok().filter(|nanos| *nanos > 0)?;
    let share = |amount: u64, per: u128| u64::try_from(u128::from(amount) * per / u128::from(nanos)).ok();
    let rate = |before: u64, after: u64| {
        let rate = share(after.checked_sub(before)?, 1_000_000_000)?;
        Some(Bytes(rate / STEP * STEP))
    };
    let whole = |bytes: u64| Bytes(bytes / MIB * MIB);
    let milli = share(after.cpu_ns.checked_sub(before.cpu_ns)?, 1000)?;
    Some(InstanceUsage {
        at: Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
        // No host has more.
        cpu: format!("{}m", milli.min(1_000_000_000)),
        memory: after.memory.map(whole),
        resident: after.resident.map(whole),
        disk: after.disk.map(whole),
        disk_read: rate(before.read, after.read)?,
        disk_written: rate(before.written, after.written)?,
        network_received: rate(before.received, after.received)?,
        network_sent: rate(before.sent, after.sent)?,
    })
}

/// Whether what is used now is worth a write after what was told before: only after five minutes, and only when it
/// differs by a quarter and by an amount that matters.
pub fn is_news(old: Option<&InstanceUsage>, new: &InstanceUsage) -> bool {
    let Some(old) = old else { return true };
    let stood = new.at.0.duration_since(old.at.0);
    // A clock that was set back must not make it stand for ever.
    if !stood.is_negative() && Duration::try_from(stood).is_ok_and(|stood| stood < STANDS) {
        return false;
    }
    let far = |a: u64, b: u64, least: u64| a.abs_diff(b) >= least && a.abs_diff(b) * 4 >= a.max(b);
    let milli = |usage: &InstanceUsage| usage.cpu.trim_end_matches('m').parse().unwrap_or(0);
    let bytes = |a: Option<Bytes>, b: Option<Bytes>, least: u64| match (a, b) {
        (Some(a), Some(b)) => far(a.0, b.0, least),
        (a, b) => a.is_some() != b.is_some(),
    };
    far(milli(old), milli(new), 50)
        || bytes(old.memory, new.memory, 16 * MIB)
        || bytes(old.resident, new.resident, 64 * MIB)
        || bytes(old.disk, new.disk, 64 * MIB)
        || [
            (old.disk_read, new.disk_read),
            (old.disk_written, new.disk_written),
            (old.network_received, new.network_received),
            (old.network_sent, new.network_sent),
        ]
        .iter()
        .any(|(old, new)| far(old.0, new.0, MIB))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn counters(seconds: u64, cpu_ns: u64) -> Counters {
        Counters {
            cpu_ns: cpu_ns * seconds,
            memory: Some(300 << 20),
            resident: Some(400 << 20),
            disk: None,
            read: 5 * MIB * seconds,
            written: 300 * seconds,
            received: 0,
            sent: 2048 * seconds,
        }
    }

    fn after_a_minute(cpu_ns: u64, second: i64) -> InstanceUsage {
        let minute = Duration::from_mins(1);
        usage(&Counters::default(), &counters(60, cpu_ns), minute, at(second)).unwrap()
    }

    #[test]
    fn rates_are_by_the_second_and_noise_is_nothing() {
        let used = after_a_minute(250_000_000, 0);
        assert_eq!(used.cpu, "250m");
        assert_eq!((used.disk_read, used.disk_written), (Bytes(5 * MIB), Bytes(0)));
        assert_eq!((used.network_received, used.network_sent), (Bytes(0), Bytes(2048)));
        assert_eq!((used.memory, used.disk), (Some(Bytes(300 << 20)), None));
    }

    #[test]
    fn a_domain_that_was_started_in_between_is_not_measured() {
        let (young, old) = (counters(1, 5), counters(60, 5));
        assert_eq!(usage(&old, &young, Duration::from_mins(1), at(0)), None);
        assert_eq!(usage(&young, &old, Duration::ZERO, at(0)), None);
    }

    #[test]
    fn a_little_more_is_no_news_and_nothing_is_before_five_minutes() {
        let told = after_a_minute(200_000_000, 0);
        assert!(is_news(None, &told));
        assert!(!is_news(Some(&told), &after_a_minute(900_000_000, 299)));
        assert!(!is_news(Some(&told), &after_a_minute(230_000_000, 600)));
        assert!(is_news(Some(&told), &after_a_minute(900_000_000, 300)));
        // The host's clock was set back by a day.
        assert!(is_news(Some(&told), &after_a_minute(900_000_000, -86_400)));
        let idle = after_a_minute(1_000_000, 0);
        assert!(
            !is_news(Some(&idle), &after_a_minute(30_000_000, 900)),
            "of little, much is still little"
        );
    }

    proptest! {
        #[test]
        fn any_counters_can_be_told_of(
            before in any::<(u64, u64, u64)>(), after in any::<(u64, u64, u64)>(), seconds in 0_u64..1_000_000,
        ) {
            let counters = |(cpu_ns, read, sent): (u64, u64, u64)| Counters { cpu_ns, read, sent, ..Counters::default() };
            let passed = Duration::from_secs(seconds);
            if let Some(used) = usage(&counters(before), &counters(after), passed, at(0)) {
                prop_assert!(used.cpu.len() <= 16);
                is_news(Some(&used), &used);
            }
        }
    }
}
