//! How fast is Nova's own filter scheduler on this machine, and how fast are we on the very same hosts?
//!
//! Both read a [`World`] as JSON. Nova 34 runs from a virtual environment in the cache folder that is made once for each
//! content of `requirements.txt`; it is driven by `driver.py`. Ours is `operator/scheduler/benches/against_nova.rs`. Before
//! anything is timed, both say how many hosts pass for some requests, and what the best of them weighs: a difference is an
//! error.

mod environment;
mod world;

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use super::Error;
use crate::{command, file};
use world::World;

const SIZES: [usize; 4] = [100, 1_000, 5_000, 10_000];
const PROFILES: [&str; 2] = ["default", "wide"];
/// For how long Nova decides in each case; it makes two decisions at least.
const SECONDS: u32 = 10;
/// Nova makes 10,000 hosts, answers eight requests and makes two decisions, each of up to 20 s on a busy machine.
const NOVA_LIMIT: Duration = Duration::from_mins(8);
/// It builds the scheduler in release mode first.
const OURS_LIMIT: Duration = Duration::from_mins(20);
const DRIVER: &str = "operator/xtask/src/bench/nova/driver.py";

/// One world and profile, decided by both.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Of how many hosts.
    pub hosts: usize,
    /// `default` or `wide`.
    pub profile: &'static str,
    /// How many hosts passed for each of the requests that both were asked.
    pub survivors: Vec<usize>,
    /// Nova's decisions for each second on a processor.
    pub nova: f64,
    /// Ours.
    pub ours: f64,
    /// Within how long 99 of 100 of ours were made.
    pub p99: Duration,
    /// Filters of the profile that we do not have.
    pub lacking: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Timed {
    answers: Vec<Answer>,
    decisions: u32,
    cpu_seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Answer {
    survivors: usize,
    best: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ours {
    hosts: usize,
    profile: String,
    lacking: Vec<String>,
    p99_seconds: f64,
    #[serde(flatten)]
    timed: Timed,
}

impl Timed {
    fn per_second(&self) -> f64 {
        f64::from(self.decisions) / self.cpu_seconds.max(1e-9)
    }
}

/// Runs both.
pub fn measure() -> Result<Vec<Comparison>, Error> {
    let python = environment::python()?;
    let folder = tempfile::tempdir().map_err(file::failed("making", "a folder for worlds"))?;
    let mut worlds = Vec::new();
    for hosts in SIZES {
        let path = folder.path().join(format!("{hosts}.json"));
        let world = serde_json::to_vec(&World::of(hosts));
        let world = world.map_err(|error| Error::unreadable("a world", &error.to_string()))?;
        file::write(&path, world)?;
        worlds.push((hosts, path));
    }
    println!("our scheduler (builds its bench in release mode)");
    let mut ours = ours(worlds.iter().map(|(_, path)| path.as_path()))?;
    let mut compared = Vec::new();
    for (hosts, path) in &worlds {
        for profile in PROFILES {
            let ours = ours.remove(&(*hosts, profile.to_owned()));
            let ours = ours.ok_or_else(|| Error::unreadable("our bench's answers", &format!("{hosts} {profile}")))?;
            let nova = nova(&python, path, profile)?;
            agree(&format!("{profile}, {hosts} hosts"), &nova.answers, &ours.timed.answers)?;
            let comparison = Comparison {
                hosts: *hosts,
                profile,
                survivors: ours.timed.answers.iter().map(|answer| answer.survivors).collect(),
                nova: nova.per_second(),
                ours: ours.timed.per_second(),
                p99: Duration::try_from_secs_f64(ours.p99_seconds).unwrap_or_default(),
                lacking: ours.lacking,
            };
            println!(
                "{profile}, {hosts} hosts: Nova {:.2} decisions a second ({} made), ours {:.0}",
                comparison.nova, nova.decisions, comparison.ours
            );
            compared.push(comparison);
        }
    }
    Ok(compared)
}

fn nova(python: &Path, world: &Path, profile: &str) -> Result<Timed, Error> {
    let mut driver = Command::new(python);
    driver.arg(file::checkout().join(DRIVER)).arg(world).arg(profile);
    let said = command::text(driver.arg(SECONDS.to_string()), NOVA_LIMIT);
    let said = said.map_err(command::failed("measuring Nova's scheduler"))?;
    let answer = said.lines().last().unwrap_or_default();
    serde_json::from_str(answer).map_err(|_| Error::unreadable("Nova's answers", &said))
}

fn ours<'a>(worlds: impl Iterator<Item = &'a Path>) -> Result<BTreeMap<(usize, String), Ours>, Error> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["bench", "--quiet", "--package", "virga-scheduler"])
        .args(["--bench", "against_nova", "--"])
        .args(worlds)
        .current_dir(file::checkout());
    let said = command::text(&mut cargo, OURS_LIMIT).map_err(command::failed("measuring our scheduler"))?;
    let mut found = BTreeMap::new();
    for line in said.lines().filter(|line| line.starts_with('{')) {
        let ours: Ours = serde_json::from_str(line).map_err(|_| Error::unreadable("our bench's answers", line))?;
        found.insert((ours.hosts, ours.profile.clone()), ours);
    }
    Ok(found)
}

/// Whether both let as many hosts through and give the best the same weight.
fn agree(case: &str, nova: &[Answer], ours: &[Answer]) -> Result<(), Error> {
    let same = |(nova, ours): (&Answer, &Answer)| {
        nova.survivors == ours.survivors && (nova.best - ours.best).abs() <= 1e-6 * nova.best.abs().max(1.0)
    };
    if nova.len() == ours.len() && nova.iter().zip(ours).all(same) {
        return Ok(());
    }
    Err(Error::Disagree {
        case: case.to_owned(),
        nova: format!("{nova:?}"),
        ours: format!("{ours:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(given: &[(usize, f64)]) -> Vec<Answer> {
        let answer = |&(survivors, best): &(usize, f64)| Answer { survivors, best };
        given.iter().map(answer).collect()
    }

    #[test]
    fn another_number_of_hosts_or_another_weight_is_a_difference() {
        let nova = answers(&[(89, 2.5), (40, 1.0)]);
        assert!(agree("a", &nova, &answers(&[(89, 2.5 + 1e-9), (40, 1.0)])).is_ok());
        assert!(agree("a", &nova, &answers(&[(88, 2.5), (40, 1.0)])).is_err());
        assert!(agree("a", &nova, &answers(&[(89, 2.6), (40, 1.0)])).is_err());
        assert!(agree("a", &nova, &answers(&[(89, 2.5)])).is_err());
    }

    #[test]
    fn a_line_of_our_bench_is_read() {
        let line = r#"{"hosts":100,"profile":"wide","lacking":["NUMATopologyFilter"],"answers":[{"survivors":3,"best":1.5}],"decisions":3000,"cpuSeconds":0.5,"p99Seconds":0.0001}"#;
        let ours: Ours = serde_json::from_str(line).unwrap();
        assert!((ours.timed.per_second() - 6000.0).abs() < 1e-6);
        assert_eq!(ours.timed.answers[0].survivors, 3);
    }
}
