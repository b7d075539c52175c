//! What is told to people?

use std::{
    cmp::Ordering,
    fmt::Display,
    io::{self, Write},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use virga_controller::scheduling::record::{Detail, Recorded, Rejected, Reservation, ReservationState};
use virga_crds::DecidedBy;
use virga_scheduler::{Part, Verdict};

use super::{Explained, Found, Now, Record, Said};
use crate::{
    usage::Amount,
    words::{Table, bytes, printable},
};

/// Which hosts' answers are told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hosts {
    /// All of them.
    All,
    /// The one at this place.
    One(usize),
    /// One was asked for, and none could be asked.
    None,
}

/// What was decided, and what would be.
pub(super) fn report(explained: &Explained, hosts: Hosts, out: &mut dyn Write) -> io::Result<()> {
    header(explained, out)?;
    decided(explained, out)?;
    let Some(now) = &explained.now else { return Ok(()) };
    if explained.found.recorded.is_some() {
        writeln!(out, "\nAs it would be decided now:")?;
    }
    rules(now, out)?;
    match hosts {
        Hosts::All => table(explained, now, out),
        Hosts::One(at) => words(now, at, out),
        Hosts::None => no_host(now, out),
    }
}

fn no_host(now: &Now, out: &mut dyn Write) -> io::Result<()> {
    let why = if now.obstacles.is_empty() {
        "No host could be asked."
    } else {
        "No host was asked."
    };
    writeln!(out, "\n{why}")
}

/// All hosts: those that would take the Instance, the best first, and the others with their reasons.
fn table(explained: &Explained, now: &Now, out: &mut dyn Write) -> io::Result<()> {
    if now.hosts.is_empty() {
        return no_host(now, out);
    }
    writeln!(out)?;
    let mut table = Table::new(["HOST", "FITS", "WEIGHT", "WHY"]);
    for said in sorted(now) {
        let here = explained.host.as_ref() == Some(&said.verdict.host);
        let host = format!("{}{}", said.verdict.host, if here { " *" } else { "" });
        match &said.verdict.verdict {
            Verdict::Passed { weight, parts } => {
                let parts = parts.iter().map(|part| (part.weigher, part.weight()));
                table.row([host.as_str(), "yes", &number(*weight), &shares(parts)]);
            }
            Verdict::Rejected { filter, text, note } => {
                table.row([host.as_str(), "no", "", &reason(filter, text, note)]);
            }
        }
    }
    table.print(out)?;
    let fits = now.hosts.iter().filter(|said| weight(said).is_some()).count();
    writeln!(out, "\n{fits} of {} hosts would take it.", now.hosts.len())?;
    if explained.host.is_some() {
        writeln!(
            out,
            "* is where it is. All is as if it were placed now; when it was, the hosts may have been otherwise."
        )?;
    }
    Ok(())
}

/// One host, in words.
fn words(now: &Now, at: usize, out: &mut dyn Write) -> io::Result<()> {
    let Some(said) = now.hosts.get(at) else {
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
            let ranked = sorted(now);
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
    room(now, said, out)
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

fn room(now: &Now, said: &Said, out: &mut dyn Write) -> io::Result<()> {
    let Some(takes) = now.takes else { return Ok(()) };
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

/// A line of the header. What came from elsewhere can't command the terminal.
fn line(label: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{label:<11} {}", printable(text).replace('\n', " "))
}

fn header(explained: &Explained, out: &mut dyn Write) -> io::Result<()> {
    let Explained {
        namespace,
        name,
        flavor,
        host,
        scheduled,
        ..
    } = explained;
    line("Instance:", &format!("{namespace}/{name}"), out)?;
    line("Flavor:", flavor, out)?;
    line("Host:", host.as_deref().unwrap_or("none"), out)?;
    let scheduled = scheduled.as_ref().map_or_else(
        || "nothing was said yet".to_owned(),
        |c| {
            let since = c.last_transition_time.0;
            format!("{} since {since}, {}: {}", c.status, c.reason, c.message)
        },
    );
    line("Scheduled:", &scheduled, out)
}

/// What was decided, by whoever remembers it.
fn decided(explained: &Explained, out: &mut dyn Write) -> io::Result<()> {
    let Found {
        recorded,
        not_from_leader,
    } = &explained.found;
    let why_not = not_from_leader.as_deref().unwrap_or_default();
    match recorded {
        None => line(
            "Decided:",
            &format!("not known; not from the leading controller: {why_not}"),
            out,
        ),
        Some(Record::Leader(kept)) => {
            outcome(&kept.decided_at, kept.decided_by, kept.survivors, kept.hosts, out)?;
            let rejections: Vec<String> = kept.rejections.iter().map(rejection).collect();
            rejected(&rejections, out)?;
            if let Some(reservation) = &kept.reservation {
                line("Reserved:", &age(reservation), out)?;
            }
            line("Known from:", "the leading controller", out)?;
            best(kept, out)
        }
        Some(Record::Status(told)) => {
            outcome(&told.decided_at, told.decided_by, told.survivors, told.hosts, out)?;
            let rejections = told.rejections.iter().map(|r| format!("{} {}", r.hosts, r.filter));
            rejected(&rejections.collect::<Vec<_>>(), out)?;
            if !told.weights.is_empty() {
                let chosen = told.rank.and_then(|rank| usize::try_from(rank).ok());
                let mark = |at: usize| if Some(at + 1) == chosen { " *" } else { "" };
                let weights = told.weights.iter().enumerate();
                let weights: Vec<String> = weights.map(|(at, weight)| format!("{weight}{}", mark(at))).collect();
                line(
                    "Weights:",
                    &format!("{}; * is the chosen one's", weights.join(", ")),
                    out,
                )?;
            }
            if let Some(age) = told.reservation_age_milliseconds {
                line("Reserved:", &format!("{age} ms before it was bound"), out)?;
            }
            let from = format!("the Instance's status; not from the leading controller: {why_not}");
            line("Known from:", &from, out)
        }
    }
}

fn outcome(
    at: &Time,
    by: DecidedBy,
    survivors: impl Display,
    hosts: impl Display,
    out: &mut dyn Write,
) -> io::Result<()> {
    let by = match by {
        DecidedBy::Admission => "while it was created",
        DecidedBy::Queue => "by the queue",
    };
    line("Decided:", &format!("{:.0}, {by}", at.0), out)?;
    line("Passed:", &format!("{survivors} of {hosts} hosts"), out)
}

fn rejected(rejections: &[String], out: &mut dyn Write) -> io::Result<()> {
    if rejections.is_empty() {
        return Ok(());
    }
    line("Rejected:", &rejections.join(", "), out)
}

/// `3 ComputeFilter (2 disabled: new disks, 1 not responding)`.
fn rejection(rejection: &Rejected) -> String {
    let Rejected { filter, count, details } = rejection;
    let words = |detail: &Detail| match detail.note.as_str() {
        "" => detail.text.clone(),
        note => format!("{}: {note}", detail.text),
    };
    match details.as_slice() {
        [] => format!("{count} {filter}"),
        [all] if all.count == *count => format!("{count} {filter} ({})", words(all)),
        some => {
            let some: Vec<String> = some.iter().map(|d| format!("{} {}", d.count, words(d))).collect();
            format!("{count} {filter} ({})", some.join(", "))
        }
    }
}

fn age(reservation: &Reservation) -> String {
    let age = reservation.age_milliseconds.unwrap_or_default();
    match reservation.state {
        ReservationState::Bound => format!("{age} ms until it was seen bound"),
        ReservationState::Held => format!("for {age} ms so far; it was not seen bound yet"),
        ReservationState::Ended => "it has ended without that it was seen bound".to_owned(),
    }
}

/// The best three as they were weighed.
fn best(kept: &Recorded, out: &mut dyn Write) -> io::Result<()> {
    if kept.best.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(["BEST THEN", "WEIGHT", "WHY"]);
    for best in &kept.best {
        let chosen = kept.host.as_ref() == Some(&best.host);
        let parts = best.parts.iter();
        let parts = parts.map(|part| (part.weigher.as_str(), part.multiplier * part.normalised));
        table.row([
            format!("{}{}", best.host, if chosen { " *" } else { "" }),
            number(best.weight),
            shares(parts),
        ]);
    }
    table.print(out)
}

/// By which rules hosts are asked now, and what that rests on.
fn rules(now: &Now, out: &mut dyn Write) -> io::Result<()> {
    line("Profile:", &now.profile, out)?;
    for unread in &now.unread {
        line(
            "Not read:",
            &format!("{}: {}; {}", unread.what, unread.why, unread.so),
            out,
        )?;
    }
    for obstacle in &now.obstacles {
        line("In the way:", &format!("{}: {}", obstacle.field, obstacle.message), out)?;
    }
    Ok(())
}

/// `RAMWeigher 1, CPUWeigher 0.5`: what gave nothing is left out.
fn shares<'a>(parts: impl Iterator<Item = (&'a str, f64)>) -> String {
    let parts = parts.filter(|(_, weight)| *weight != 0.0);
    let parts: Vec<String> = parts
        .map(|(weigher, weight)| format!("{weigher} {}", number(weight)))
        .collect();
    parts.join(", ")
}

/// Those that pass by their weight, the best first; then the others by name.
fn sorted(now: &Now) -> Vec<&Said> {
    let mut hosts: Vec<&Said> = now.hosts.iter().collect();
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
