//! How many placements a second does the scheduler make? Measured by its own bench, in release mode.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use super::Error;
use crate::{command, file};

/// It builds the scheduler in release mode first.
const LIMIT: Duration = Duration::from_mins(20);

/// The cases of `operator/scheduler/benches/placement`, what is said of them, and with how many hosts.
const CASES: [(&str, &str, &[u32]); 8] = [
    (
        "default",
        "the default filters and weighers; a member of an anti-affinity group",
        &[100, 1_000, 5_000, 10_000],
    ),
    ("default, one zone", "the same, in one of three zones", &[10_000]),
    (
        "default, refused",
        "more than any host has: refused, with counts",
        &[10_000],
    ),
    (
        "all filters",
        "all filters; with a query, extra specs, capabilities and metrics",
        &[10_000],
    ),
    (
        "group of 1000",
        "a member of an anti-affinity group of 1,000",
        &[10_000],
    ),
    (
        "cells, default",
        "two NUMA nodes with processors of their own, and a GPU",
        &[10_000],
    ),
    ("cells, all filters", "the same, of all filters", &[1_000, 10_000]),
    ("equal hosts", "any of hosts that are all the same", &[10_000]),
];

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// What was asked.
    pub asked: &'static str,
    /// Of how many hosts.
    pub hosts: u32,
    /// How long one decision takes: criterion's estimate of the mean.
    pub each: Duration,
    /// Within how long 99 of 100 decisions are made.
    pub p99: Duration,
}

#[derive(Deserialize)]
struct Estimates {
    mean: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    /// Nanoseconds.
    point_estimate: f64,
}

/// Runs the bench and reads what it found.
pub fn measure() -> Result<Vec<Placement>, Error> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "bench",
            "--quiet",
            "--package",
            "virga-scheduler",
            "--bench",
            "placement",
        ])
        .current_dir(file::checkout());
    let printed = command::text(&mut cargo, LIMIT).map_err(command::failed("measuring placements"))?;
    let mut found = Vec::new();
    for (folder, asked, sizes) in CASES {
        for &hosts in sizes {
            let path = criterion().join(format!("placement/{folder}/{hosts}/new/estimates.json"));
            let text = file::read_text(&path)?;
            let each = mean(&text).ok_or_else(|| Error::unreadable("criterion's estimates", &text))?;
            let p99 = p99(&printed, &format!("{folder}/{hosts}"));
            let p99 = p99.ok_or_else(|| Error::unreadable("the bench's percentiles", &printed))?;
            found.push(Placement {
                asked,
                hosts,
                each,
                p99,
            });
        }
    }
    Ok(found)
}

/// From a line such as `default/100: p10 3.3µs, …, p99 10.1µs, …`.
fn p99(printed: &str, case: &str) -> Option<Duration> {
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix(case)?.strip_prefix(": "))?;
    let time = line.split(", ").find_map(|part| part.strip_prefix("p99 "))?;
    let digits = time.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match time.strip_prefix(digits)? {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    };
    Duration::try_from_secs_f64(digits.parse::<f64>().ok()? * unit).ok()
}

fn mean(text: &str) -> Option<Duration> {
    let estimates: Estimates = serde_json::from_str(text).ok()?;
    Duration::try_from_secs_f64(estimates.mean.point_estimate / 1e9).ok()
}

/// Where criterion keeps what it found: in cargo's target folder.
fn criterion() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| file::checkout().join("target"), PathBuf::from);
    target.join("criterion")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criterions_nanoseconds_are_read() {
        let text = r#"{"mean":{"confidence_interval":{"lower_bound":1.0},"point_estimate":12000.0,"standard_error":1.0},"median":{"point_estimate":1.0}}"#;
        assert_eq!(mean(text), Some(Duration::from_micros(12)));
        assert_eq!(mean("{}"), None);
    }

    #[test]
    fn the_slowest_of_a_hundred_is_read_of_its_case() {
        let printed = "default/100: p10 3.3µs, p50 3.6µs, p90 4.1µs, p99 10.25µs, on the processor 3.5µs each\n\
                       default, one zone/100: p10 1ms, p50 1ms, p90 1ms, p99 2.5ms, on the processor 1ms each\n";
        assert_eq!(p99(printed, "default/100"), Some(Duration::from_nanos(10_250)));
        assert_eq!(
            p99(printed, "default, one zone/100"),
            Some(Duration::from_micros(2_500))
        );
        assert_eq!(p99(printed, "default/1000"), None);
    }
}
