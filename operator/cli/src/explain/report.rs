//! What is told to people?

use std::{
    cmp::Ordering,
    io::{self, Write},
};

use virga_scheduler::{Part, Verdict};

use super::{Explained, Said};
use crate::{
    usage::Amount,
    words::{Table, bytes, printable},
};

/// All hosts: those that would take the Instance, the best first, and the others with their reasons.
pub(super) fn table(explained: &Explained, out: &mut dyn Write) -> io::Result<()> {
    header(explained, out)?;
    if explained.hosts.is_empty() {
        let why = if explained.obstacles.is_empty() {
            "No host could be asked."
        } else {
            "No host was asked."
        };
        return writeln!(out, "\n{why}");
    }
    writeln!(out)?;
    let mut table = Table::new(["HOST", "FITS", "WEIGHT", "WHY"]);
    for said in sorted(explained) {
        let here = explained.host.as_ref() == Some(&said.verdict.host);
        let host = format!("{}{}", said.verdict.host, if here { " *" } else { "" });
        match &said.verdict.verdict {
            Verdict::Passed { weight, parts } => {
                let parts = parts.iter().filter(|part| part.weight() != 0.0);
                let parts: Vec<String> = parts
                    .map(|part| format!("{} {}", part.weigher, number(part.weight())))
                    .collect();
                table.row([host.as_str(), "yes", &number(*weight), &parts.join(", ")]);
            }
            Verdict::Rejected { filter, text, note } => {
                table.row([host.as_str(), "no", "", &reason(filter, text, note)]);
            }
        }
    }
    table.print(out)?;
    let fits = explained.hosts.iter().filter(|said| weight(said).is_some()).count();
    writeln!(out, "\n{fits} of {} hosts would take it.", explained.hosts.len())?;
    if explained.host.is_some() {
        writeln!(
            out,
            "* is where it is. All is as if it were placed now; when it was, the hosts may have been otherwise."
        )?;
    }
    Ok(())
}

/// One host, in words.
pub(super) fn words(explained: &Explained, at: usize, out: &mut dyn Write) -> io::Result<()> {
    header(explained, out)?;
    let Some(said) = explained.hosts.get(at) else {
        return Ok(());
    };
    let host = printable(&said.verdict.host);
    writeln!(out)?;
    match &said.verdict.verdict {
        Verdict::Rejected { filter, text, note } => {
            writeln!(
                out,
                "{host} would not take it: {}.",
                printable(&reason(filter, text, note))
            )?;
        }
        Verdict::Passed { weight, parts } => {
            let ranked = sorted(explained);
            let passed: Vec<&&Said> = ranked.iter().filter(|said| self::weight(said).is_some()).collect();
            let better = passed
                .iter()
                .filter(|other| self::weight(other) > Some(*weight))
                .count();
            let equal = passed
                .iter()
                .filter(|other| self::weight(other) == Some(*weight))
                .count();
            let count = passed.len();
            match (count, better, equal) {
                (1, ..) => writeln!(out, "{host} would take it, and is the only one: nothing was weighed.")?,
                (_, 0, 1) => writeln!(out, "{host} is the best of the {count} hosts that would take it.")?,
                (_, 0, _) => writeln!(
                    out,
                    "{host} is one of the {equal} best of the {count} hosts that would take it: chance decides."
                )?,
                _ => {
                    let best = passed
                        .first()
                        .map(|best| best.verdict.host.as_str())
                        .unwrap_or_default();
                    writeln!(
                        out,
                        "{host} would take it, and is number {} of the {count} hosts that would; the best is {}.",
                        better + 1,
                        printable(best)
                    )?;
                }
            }
            weights(*weight, parts, out)?;
        }
    }
    room(explained, said, out)
}

fn weights(weight: f64, parts: &[Part], out: &mut dyn Write) -> io::Result<()> {
    if parts.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(["WEIGHER", "MEASURED", "FROM 0 TO 1", "TIMES", "WEIGHT"]);
    for part in parts {
        table.row([
            part.weigher.to_owned(),
            number(part.measure),
            number(part.normalised),
            number(part.multiplier),
            number(part.weight()),
        ]);
    }
    table.row(["total", "", "", "", &number(weight)]);
    writeln!(out)?;
    table.print(out)
}

fn room(explained: &Explained, said: &Said, out: &mut dyn Write) -> io::Result<()> {
    let Some(takes) = explained.takes else { return Ok(()) };
    let usage = &said.usage;
    let mut table = Table::new(["", "GIVEN OUT", "OF", "LEFT", "THE INSTANCE TAKES"]);
    let mut row = |what: &str, amount: Amount, takes: u128, shown: fn(u128) -> String| {
        let left = shown(amount.limit.saturating_sub(amount.used));
        table.row([what, &shown(amount.used), &shown(amount.limit), &left, &shown(takes)]);
    };
    row("vCPUs", usage.vcpus, takes.vcpus.into(), |amount| amount.to_string());
    row("memory", usage.memory, takes.memory.into(), bytes);
    row("disk", usage.disk, takes.disk.into(), bytes);
    writeln!(out)?;
    table.print(out)
}

fn header(explained: &Explained, out: &mut dyn Write) -> io::Result<()> {
    let Explained {
        namespace,
        name,
        flavor,
        host,
        scheduled,
        profile,
        obstacles,
        unread,
        ..
    } = explained;
    let text = |label: &str, text: String| format!("{label:<11} {}", printable(&text).replace('\n', " "));
    writeln!(out, "{}", text("Instance:", format!("{namespace}/{name}")))?;
    writeln!(out, "{}", text("Flavor:", flavor.clone()))?;
    writeln!(out, "{}", text("Host:", host.clone().unwrap_or_else(|| "none".into())))?;
    let scheduled = scheduled.as_ref().map_or_else(
        || "nothing was said yet".to_owned(),
        |c| {
            let since = c.last_transition_time.0;
            format!("{} since {since}, {}: {}", c.status, c.reason, c.message)
        },
    );
    writeln!(out, "{}", text("Scheduled:", scheduled))?;
    writeln!(out, "{}", text("Profile:", profile.clone()))?;
    for unread in unread {
        let missing = format!("{}: {}; {}", unread.what, unread.why, unread.so);
        writeln!(out, "{}", text("Not read:", missing))?;
    }
    for obstacle in obstacles {
        writeln!(
            out,
            "{}",
            text("In the way:", format!("{}: {}", obstacle.field, obstacle.message))
        )?;
    }
    Ok(())
}

/// Those that pass by their weight, the best first; then the others by name.
fn sorted(explained: &Explained) -> Vec<&Said> {
    let mut hosts: Vec<&Said> = explained.hosts.iter().collect();
    hosts.sort_by(|one, other| match (weight(one), weight(other)) {
        (Some(one), Some(other)) => other.total_cmp(&one),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    });
    hosts
}

fn weight(said: &Said) -> Option<f64> {
    match said.verdict.verdict {
        Verdict::Passed { weight, .. } => Some(weight),
        Verdict::Rejected { .. } => None,
    }
}

fn reason(filter: &str, text: &str, note: &str) -> String {
    let words: Vec<&str> = [text, note].into_iter().filter(|words| !words.is_empty()).collect();
    if words.is_empty() {
        filter.to_owned()
    } else {
        format!("{filter} ({})", words.join(": "))
    }
}

/// Two decimals, and none where there are none.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.strip_suffix(".00").unwrap_or(&text);
    if text == "-0" { "0".into() } else { text.into() }
}
