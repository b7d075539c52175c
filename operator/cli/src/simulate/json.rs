//! What is told to programs? Written as it is decided: of thousands of Instances on thousands of hosts nothing is kept.

use std::io::{self, Write};

use serde::Serialize;

use super::{Rules, Summary, simulate};
use crate::objects::Objects;

/// `{"runs": [{"profile", "seed", "instances": [...], "alreadyPlaced", "placed", "refused", "hosts": [...]}]}`, a run for
/// each profile.
pub(super) fn print(objects: &Objects, runs: &[Rules], out: &mut dyn Write) -> io::Result<Vec<Summary>> {
    let mut summaries = Vec::new();
    write!(out, "{{\"runs\": [")?;
    for (number, rules) in runs.iter().enumerate() {
        let separator = if number == 0 { "" } else { ", " };
        write!(out, "{separator}{{\"profile\": ")?;
        put(out, &rules.profile.name)?;
        writeln!(out, ", \"seed\": {}, \"instances\": [", rules.seed)?;
        let mut first = true;
        let summary = simulate(objects, rules, |decision| {
            if !std::mem::take(&mut first) {
                writeln!(out, ",")?;
            }
            put(out, &decision)
        })?;
        write!(out, "\n], \"alreadyPlaced\": {}", summary.already_placed)?;
        write!(
            out,
            ", \"placed\": {}, \"refused\": {}",
            summary.placed, summary.refused
        )?;
        write!(out, ", \"hosts\": [")?;
        for (number, host) in summary.hosts.iter().enumerate() {
            write!(out, "{}", if number == 0 { "\n" } else { ",\n" })?;
            put(out, host)?;
        }
        write!(out, "\n]}}")?;
        summaries.push(summary);
    }
    writeln!(out, "]}}")?;
    Ok(summaries)
}

fn put(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(out, value).map_err(io::Error::from)
}
