//! How many placements a second does the scheduler make? Measured by its own bench, in release mode.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use serde::Deserialize;

use super::{Error, checkout};
use crate::command;

/// It builds the scheduler in release mode first.
const LIMIT: Duration = Duration::from_mins(20);

/// The groups of `operator/scheduler/benches/placement.rs`, and what is said of them.
const ASKED: [(&str, &str); 3] = [
    ("any zone", "a member of an anti-affinity group, in any zone"),
    ("one zone", "the same, in one of three zones"),
    ("refused", "more than any host has: refused, with counts"),
];
const HOSTS: [u32; 2] = [1_000, 10_000];

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// What was asked.
    pub asked: &'static str,
    /// Of how many hosts.
    pub hosts: u32,
    /// How long one decision takes: criterion's estimate of the mean.
    pub each: Duration,
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
        .current_dir(checkout());
    command::output(&mut cargo, LIMIT).map_err(|source| Error::Command {
        doing: "measuring placements",
        source,
    })?;
    let mut found = Vec::new();
    for (folder, asked) in ASKED {
        for hosts in HOSTS {
            let path = criterion().join(format!("placement/{folder}/{hosts}/new/estimates.json"));
            let text = fs::read_to_string(&path).map_err(|source| Error::Io {
                doing: "reading",
                path,
                source,
            })?;
            let each = mean(&text).ok_or_else(|| Error::unreadable("criterion's estimates", &text))?;
            found.push(Placement { asked, hosts, each });
        }
    }
    Ok(found)
}

fn mean(text: &str) -> Option<Duration> {
    let estimates: Estimates = serde_json::from_str(text).ok()?;
    Duration::try_from_secs_f64(estimates.mean.point_estimate / 1e9).ok()
}

/// Where criterion keeps what it found: in cargo's target folder.
fn criterion() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from);
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
}
