//! What is told to people?

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io::{self, Write},
};

use virga_scheduler::Rejection;

use super::{Decision, Rules, Summary, simulate};
use crate::{
    objects::Objects,
    usage::{Amount, HostUse},
    words::{Table, bar, bytes, printable},
};

/// The most different reasons that are listed again at the end.
const MOST_REASONS: usize = 20;

/// The decisions, the reasons of refusals, and how full the hosts are; of two profiles side by side.
pub(super) fn print(objects: &Objects, runs: &[Rules], out: &mut dyn Write) -> io::Result<Vec<Summary>> {
    let mut all = Vec::new();
    for rules in runs {
        let mut decisions = Vec::new();
        let Ok(summary) = simulate(objects, rules, |decision| {
            decisions.push(decision);
            Ok::<(), Infallible>(())
        });
        all.push((rules, decisions, summary));
    }
    match all.as_slice() {
        [(_, one, end), (_, other, other_end)] => {
            let names: Vec<String> = runs.iter().map(|rules| printable(&rules.profile.name)).collect();
            let names = [names[0].as_str(), names[1].as_str()];
            compared(names, [one, other], out)?;
            writeln!(out)?;
            compared_hosts(names, [end, other_end], out)?;
            writeln!(out)?;
        }
        _ => {
            for (_, decisions, summary) in &all {
                decided(decisions, out)?;
                writeln!(out)?;
                hosts(&summary.hosts, out)?;
                writeln!(out)?;
            }
        }
    }
    for (rules, decisions, summary) in &all {
        end(rules, decisions, summary, out)?;
    }
    Ok(all.into_iter().map(|(_, _, summary)| summary).collect())
}

fn decided(decisions: &[Decision], out: &mut dyn Write) -> io::Result<()> {
    if decisions.is_empty() {
        return writeln!(out, "No Instance is without a host.");
    }
    let mut table = Table::new(["INSTANCE", "FLAVOR", "HOST", "FITS", "REJECTED BY"]);
    for decision in decisions {
        let name = format!("{}/{}", decision.namespace, decision.name);
        let host = decision.host.as_deref().unwrap_or("-");
        let (fits, why) = if decision.obstacles.is_empty() {
            (
                format!("{} of {}", decision.fits, decision.hosts),
                rejected(&decision.rejections),
            )
        } else {
            ("-".into(), decision.message.clone())
        };
        table.row([name.as_str(), &decision.flavor, host, &fits, &why]);
    }
    table.print(out)
}

/// `7 RamFilter, 3 ComputeFilter (disabled: new disks)`: operators simulate, so the words for operators are shown.
fn rejected(rejections: &[Rejection]) -> String {
    let one = |rejection: &Rejection| {
        let words = rejection.details.iter().map(|detail| {
            let note = if detail.note.is_empty() { "" } else { ": " };
            let words = format!("{}{note}{}", detail.text, detail.note);
            if rejection.details.len() == 1 && detail.count == rejection.count {
                words
            } else {
                format!("{} {words}", detail.count)
            }
        });
        let words: Vec<String> = words.collect();
        let words = if words.is_empty() {
            String::new()
        } else {
            format!(" ({})", words.join(", "))
        };
        format!("{} {}{words}", rejection.count, rejection.filter)
    };
    let mut sorted: Vec<&Rejection> = rejections.iter().collect();
    sorted.sort_by_key(|rejection| std::cmp::Reverse(rejection.count));
    sorted.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

fn hosts(hosts: &[HostUse], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(["HOST", "ZONE", "INSTANCES", "VCPUS", "", "MEMORY", "", "DISK", ""]);
    for host in hosts {
        let counted = |amount: Amount| format!("{} of {}", amount.used, amount.limit);
        let sized = |amount: Amount| format!("{} of {}", bytes(amount.used), bytes(amount.limit));
        table.row([
            host.name.clone(),
            host.zone.clone(),
            host.instances.to_string(),
            bar(host.vcpus.fill()),
            counted(host.vcpus),
            bar(host.memory.fill()),
            sized(host.memory),
            bar(host.disk.fill()),
            sized(host.disk),
        ]);
    }
    table.print(out)
}

fn compared(names: [&str; 2], decisions: [&[Decision]; 2], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(["INSTANCE", "FLAVOR", names[0], names[1], "DIFFERS"]);
    let key = |decision: &Decision| (decision.namespace.clone(), decision.name.clone());
    let others: BTreeMap<_, &Decision> = decisions[1].iter().map(|decision| (key(decision), decision)).collect();
    let host = |decision: &Decision| decision.host.clone().unwrap_or_else(|| "-".into());
    for decision in decisions[0] {
        let other = others.get(&key(decision)).map(|other| host(other)).unwrap_or_default();
        let mine = host(decision);
        let differs = if mine == other { "" } else { "yes" };
        let name = format!("{}/{}", decision.namespace, decision.name);
        table.row([name.as_str(), &decision.flavor, &mine, &other, differs]);
    }
    table.print(out)
}

fn compared_hosts(names: [&str; 2], ends: [&Summary; 2], out: &mut dyn Write) -> io::Result<()> {
    let header = ["INSTANCES", "VCPUS", "MEMORY", "DISK"];
    let header = header
        .into_iter()
        .flat_map(|what| names.map(|name| format!("{what} {name}")));
    let mut table = Table::new(["HOST".to_owned(), "ZONE".to_owned()].into_iter().chain(header));
    for (one, other) in ends[0].hosts.iter().zip(&ends[1].hosts) {
        let both = [one, other];
        let counts = both.map(|host| host.instances.to_string());
        let fills = [
            |host: &HostUse| host.vcpus,
            |host: &HostUse| host.memory,
            |host: &HostUse| host.disk,
        ];
        let fills = fills.into_iter().flat_map(|of| both.map(|host| bar(of(host).fill())));
        table.row(
            [one.name.clone(), one.zone.clone()]
                .into_iter()
                .chain(counts)
                .chain(fills),
        );
    }
    table.print(out)
}

fn end(rules: &Rules, decisions: &[Decision], summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let Summary {
        already_placed,
        placed,
        refused,
        hosts,
    } = summary;
    let used = hosts.iter().filter(|host| host.instances > 0).count();
    writeln!(
        out,
        "Profile {}, seed {}: {placed} placed, {refused} refused, {already_placed} placed before; {used} of {} hosts in use.",
        printable(&rules.profile.name),
        rules.seed,
        hosts.len(),
    )?;
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for decision in decisions.iter().filter(|decision| decision.host.is_none()) {
        *reasons.entry(&decision.message).or_default() += 1;
    }
    let mut reasons: Vec<(&str, usize)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (reason, count) in reasons.iter().take(MOST_REASONS) {
        writeln!(out, "  {count} refused: {}", printable(reason))?;
    }
    match reasons.len().saturating_sub(MOST_REASONS) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} other reasons"),
    }
}
