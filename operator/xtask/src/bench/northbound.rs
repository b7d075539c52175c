//! What does OVN's north-bound database cost us? Measured by the bench of `virga-ovn`, in release mode.

use std::env;
use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use super::{Error, page};
use crate::sections::Section;
use crate::{command, file};

/// The section's title.
pub const TITLE: &str = "OVN's north-bound database";
/// It builds in release mode first.
const LIMIT: Duration = Duration::from_mins(30);

/// What `operator/ovn/benches/northbound` prints.
#[derive(Debug, Deserialize)]
pub struct Northbound {
    beside: Beside,
    many: Many,
}

#[derive(Debug, Deserialize)]
struct Beside {
    ports: u32,
    groups: u32,
    rows: u32,
    ours_ms: f64,
    nbctl_ms: f64,
    raw_ms: f64,
}

#[derive(Debug, Deserialize)]
struct Many {
    ports: u32,
    groups: u32,
    rows: u32,
    made_ms: f64,
    converged_ms: f64,
    audit_ms: f64,
    writer_kib: u64,
    server_kib: u64,
    changes: Vec<Change>,
}

#[derive(Debug, Deserialize)]
struct Change {
    what: String,
    inserted: u32,
    updated: u32,
    removed: u32,
    planned_ms: f64,
    written_ms: f64,
}

/// Runs the bench and reads what it found.
pub fn measure() -> Result<Northbound, Error> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["bench", "--quiet", "--package", "virga-ovn", "--bench", "northbound"])
        .current_dir(file::checkout());
    let printed = command::text(&mut cargo, LIMIT).map_err(command::failed("measuring OVN's database"))?;
    parse(&printed).ok_or_else(|| Error::unreadable("the bench of virga-ovn", &printed))
}

fn parse(printed: &str) -> Option<Northbound> {
    let line = printed.lines().find(|line| line.starts_with('{'))?;
    serde_json::from_str(line).ok()
}

impl Northbound {
    /// What the page says of it.
    pub fn section(&self, measured: &str) -> Section {
        page::section(TITLE, |page| self.write(page, measured))
    }

    fn write(&self, page: &mut String, measured: &str) -> std::fmt::Result {
        let Self { beside, many } = self;
        writeln!(
            page,
            "{measured}\n\nA real ovsdb-server with OVN's schema, and no ovn-northd (`cargo bench --package virga-ovn --bench northbound`). \
             {} Ports in Networks of a hundred, and {} SecurityGroups of ten Ports with four rules each: {} rows in one \
             transaction into an empty database, five times in turn, and the shortest of each. *Virga*: from the Ports and \
             groups as the API has them until the transaction is answered and in the replica. *ovn-nbctl*: one that creates \
             the same rows in one transaction, from its start to its end. *The server*: the very same transaction over a \
             socket, until it is answered.\n",
            beside.ports, beside.groups, beside.rows
        )?;
        writeln!(page, "| Virga | ovn-nbctl | the server alone |\n|---:|---:|---:|")?;
        writeln!(
            page,
            "| {:.0} ms | {:.0} ms | {:.0} ms |",
            beside.ours_ms, beside.nbctl_ms, beside.raw_ms
        )?;
        writeln!(
            page,
            "\nThat is {:.2} times as long as ovn-nbctl; the goal is 1.1 at most.\n",
            beside.ours_ms / beside.nbctl_ms
        )?;
        writeln!(
            page,
            "With {} Ports and {} groups, {} rows, all is written {:.1} s after the first look ({:.0} ms of it to make the \
             rows), in one transaction. The writer takes {} MiB more then, with the objects themselves; the server {} MiB. \
             A look at everything that finds nothing to do, as once a minute, takes {:.0} ms. Each single change after that \
             is one transaction:\n",
            many.ports,
            many.groups,
            many.rows,
            many.converged_ms / 1e3,
            many.made_ms,
            page::mib(many.writer_kib),
            page::mib(many.server_kib),
            many.audit_ms
        )?;
        writeln!(
            page,
            "| change | rows that come | that change | that go | planned | written after |\n|---|---:|---:|---:|---:|---:|"
        )?;
        for change in &many.changes {
            writeln!(
                page,
                "| {} | {} | {} | {} | {:.1} ms | {:.1} ms |",
                change.what, change.inserted, change.updated, change.removed, change.planned_ms, change.written_ms
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_bench_prints_is_read_and_told() {
        let change = r#"{"what": "a Port more", "inserted": 1, "updated": 3, "removed": 0, "planned_ms": 1.5, "written_ms": 4.0}"#;
        let printed = format!(
            "running\n{{\"beside\": {{\"ports\": 10, \"groups\": 1, \"rows\": 20, \"ours_ms\": 9.0, \"nbctl_ms\": 10.0, \"raw_ms\": 8.0}}, \
             \"many\": {{\"ports\": 100, \"groups\": 10, \"rows\": 200, \"made_ms\": 1.0, \"converged_ms\": 1500.0, \"audit_ms\": 7.0, \
             \"writer_kib\": 2048, \"server_kib\": 1024, \"changes\": [{change}]}}}}\n"
        );
        let text = parse(&printed).unwrap().section("Measured.").body;
        assert!(text.contains("0.90 times as long as ovn-nbctl"), "{text}");
        assert!(text.contains("| a Port more | 1 | 3 | 0 | 1.5 ms | 4.0 ms |"), "{text}");
        assert!(parse("nothing").is_none());
    }
}
