//! The page that tells what was measured.

use std::fmt::Write as _;
use std::time::Duration;

use super::admission::{Asks, Creates};
use super::backends;
use super::burst;
use super::density;
use super::instances::Starts;
use super::memory::Memory;
use super::northbound;
use super::nova::Comparison;
use super::placement::Placement;
use super::quantile::quantile;
use super::verbs;
use crate::sections::Section;

/// What is above the first section of docs/performance.md.
pub const HEAD: &str = "# Performance

<!-- Made by `cargo xtask bench`; do not edit. -->

Each section says when and how it was measured. How one controller bears a whole cloud is in [scale](scale.md).
";

const STARTS: &str = "From create to running";
const WRITES: &str = "API writes for one Instance";
const MEMORY: &str = "Memory";
const PLACEMENTS: &str = "Placements";
const NOVA: &str = "Beside Nova's scheduler";
const ADMISSION: &str = "Creates through the API server";

/// The sections in their order.
pub const ORDER: [&str; 11] = [
    STARTS,
    backends::TITLE,
    burst::TITLE,
    verbs::TITLE,
    WRITES,
    PLACEMENTS,
    NOVA,
    ADMISSION,
    northbound::TITLE,
    density::TITLE,
    MEMORY,
];

/// A section that is written so.
pub fn section(title: &'static str, write: impl FnOnce(&mut String) -> std::fmt::Result) -> Section {
    let mut body = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut body);
    Section { title, body }
}

/// What was measured in the lab.
pub fn lab(measured: &str, rounds: u16, starts: &Starts, memory: &[Memory]) -> Vec<Section> {
    vec![
        section(STARTS, |page| write_starts(page, measured, starts)),
        section(WRITES, |page| write_writes(page, rounds, starts)),
        section(MEMORY, |page| write_memory(page, memory)),
    ]
}

fn write_starts(page: &mut String, measured: &str, starts: &Starts) -> std::fmt::Result {
    writeln!(page, "{measured}\n")?;
    writeln!(
        page,
        "One Instance after the other on one node that has image and network already, and between them the same domain \
         without Virga: its XML with another name and other files, defined and started by virsh. Instances are timed from \
         the create request until a watch shows them Active and Ready; virsh tells the time of its two calls by itself, \
         without its start, and its disk is made beforehand.\n"
    )?;
    writeln!(page, "| | median | 95th percentile | n |\n|---|---:|---:|---:|")?;
    for (name, times) in [
        ("libvirt: define and start", &starts.libvirt),
        ("Virga: create to Active and Ready", &starts.virga),
        (
            "of it, until the create is answered (admission, placement)",
            &starts.created,
        ),
    ] {
        writeln!(
            page,
            "| {name} | {} | {} | {} |",
            ms(times, 50),
            ms(times, 95),
            times.len()
        )?;
    }
    if let (Some(virga), Some(libvirt)) = (quantile(&starts.virga, 50), quantile(&starts.libvirt, 50)) {
        let more = virga.saturating_sub(libvirt).as_millis();
        let times = virga.as_secs_f64() / libvirt.as_secs_f64();
        writeln!(
            page,
            "\nIn the median Virga takes {more} ms more than libvirt alone: {times:.2} times as long."
        )?;
    }

    writeln!(
        page,
        "\nThe agent's steps, by its own clock. `EnsureNetwork` runs beside the three before it and ends before `RecordPower`; \
         its time is libvirt's, which enters the name into the network's DNS \
         ([ADR 18](adr/0018-dhcp-hosts-in-a-file.md)).\n"
    )?;
    writeln!(page, "| step | mean |\n|---|---:|")?;
    for (step, mean) in &starts.steps {
        writeln!(page, "| `{step}` | {} ms |", mean.as_millis())?;
    }
    Ok(())
}

fn write_writes(page: &mut String, rounds: u16, starts: &Starts) -> std::fmt::Result {
    writeln!(
        page,
        "From create until 3 s after it runs, as the apiserver counts them, on average over the {rounds} rounds. What \
         is written of it elsewhere, such as how many addresses of the Network are taken, is counted too.\n"
    )?;
    writeln!(page, "| resource | writes |\n|---|---:|")?;
    for (resource, count) in &starts.writes {
        let average = f64::from(u32::try_from(*count).unwrap_or(u32::MAX)) / f64::from(rounds.max(1));
        writeln!(page, "| `{resource}` | {average:.1} |")?;
    }
    Ok(())
}

/// The scheduler alone.
pub fn placements(measured: &str, placements: &[Placement]) -> Section {
    section(PLACEMENTS, |page| write_placements(page, measured, placements))
}

fn write_placements(page: &mut String, measured: &str, placements: &[Placement]) -> std::fmt::Result {
    writeln!(page, "{measured}\n")?;
    writeln!(
        page,
        "The scheduler alone, in memory: filter, weigh, choose and reserve, then give the room back \
         (`cargo bench --package virga-scheduler`). Every host that passes is weighed; none is left out. Hosts of \
         several sizes in three zones, with aggregates, metrics and ten Instances on each.\n"
    )?;
    writeln!(
        page,
        "| asked for | hosts | one decision | 99 % within | a second |\n|---|---:|---:|---:|---:|"
    )?;
    for placement in placements {
        let per_second = 1.0 / placement.each.as_secs_f64().max(1e-9);
        let micros = placement.each.as_secs_f64() * 1e6;
        writeln!(
            page,
            "| {} | {} | {micros:.1} µs | {:.1} µs | {per_second:.0} |",
            placement.asked,
            placement.hosts,
            placement.p99.as_secs_f64() * 1e6
        )?;
    }
    Ok(())
}

/// The scheduler beside Nova's.
pub fn nova(measured: &str, compared: &[Comparison]) -> Section {
    section(NOVA, |page| write_nova(page, measured, compared))
}

fn write_nova(page: &mut String, measured: &str, compared: &[Comparison]) -> std::fmt::Result {
    writeln!(
        page,
        "{measured}\n\nBoth schedulers on the same hosts, made once by one seed. Nova 34.0.0 runs in one process, without services: its own \
         HostStates, filters, weighers and choice; what is left out (Placement, the database, the message bus, and building \
         HostStates anew for each request) would make it slower. Ours filters, also by what Nova \
         leaves to Placement (room, zone, traits), weighs every host that passes, chooses, reserves and keeps the explanation; \
         what was reserved is given back after each decision in both. `default` is Nova's five default filters and all weighers, `wide` is all of \
         Nova's filters but AggregateImagePropertiesIsolation, whose warnings would be most of its time, with a query, extra \
         specs and a metric. Decisions a second are by the processor's time of one process, so that other work on the \
         machine counts little.\n"
    )?;
    writeln!(
        page,
        "| profile | hosts | Nova, decisions/s | ours, decisions/s | ours, 99 % within | times as fast |\n|---|---:|---:|---:|---:|---:|"
    )?;
    for row in compared {
        writeln!(
            page,
            "| {} | {} | {:.2} | {:.0} | {:.1} µs | {:.0} |",
            row.profile,
            row.hosts,
            row.nova,
            row.ours,
            row.p99.as_secs_f64() * 1e6,
            row.ours / row.nova.max(1e-9)
        )?;
    }
    writeln!(
        page,
        "\nBefore anything was timed, both were asked the same requests. As many hosts passed in both, and the best of them had \
         the same total weight:\n\n| profile | hosts | hosts that passed, for each request |\n|---|---:|---|"
    )?;
    for row in compared {
        let survivors: Vec<String> = row.survivors.iter().map(usize::to_string).collect();
        writeln!(page, "| {} | {} | {} |", row.profile, row.hosts, survivors.join(", "))?;
    }
    let mut lacking: Vec<&str> = compared
        .iter()
        .flat_map(|row| row.lacking.iter().map(String::as_str))
        .collect();
    lacking.sort_unstable();
    lacking.dedup();
    if !lacking.is_empty() {
        writeln!(
            page,
            "\nOurs ran without {}, which it does not have.",
            lacking.join(", ")
        )?;
    }
    Ok(())
}

/// Creates through a real apiserver.
pub fn admission(measured: &str, creates: &[Creates]) -> Section {
    section(ADMISSION, |page| write_admission(page, measured, creates))
}

fn write_admission(page: &mut String, measured: &str, creates: &[Creates]) -> std::fmt::Result {
    writeln!(
        page,
        "{measured}\n\nInstances created one after the other over one connection, and over 32 at once; client, apiserver, etcd and \
         controller share this machine. *No webhooks*: no controller runs either. *Guard and validation*: the Instance is \
         admitted unplaced, and the queue places it afterwards, which is more writes while the next one is created. *All*: \
         the leader places it in the request. A decision is timed by the controller: the wait for the scheduler's lock, filters, \
         weights, choice, reservation. Its share is that of the mean request.\n"
    )?;
    writeln!(
        page,
        "| hosts | clients | webhooks | median | 95 % within | 99 % within | n | placed in the request | a decision | its share |\n\
         |---:|---:|---|---:|---:|---:|---:|---:|---:|---:|"
    )?;
    for row in creates {
        let within = |percent| {
            quantile(&row.times, percent).map_or_else(
                || "not measured".to_owned(),
                |time| format!("{:.1} ms", time.as_secs_f64() * 1e3),
            )
        };
        let decision = row.decision.map(|time| format!("{:.3} ms", time.as_secs_f64() * 1e3));
        let share = row.share().map(|share| format!("{:.2} %", share * 100.0));
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.hosts,
            row.clients,
            match row.asks {
                Asks::Nobody => "none",
                Asks::NotToSchedule => "guard and validation",
                Asks::All => "all",
            },
            within(50),
            within(95),
            within(99),
            row.times.len(),
            row.placed,
            decision.unwrap_or_default(),
            share.unwrap_or_default()
        )?;
    }
    Ok(())
}

fn write_memory(page: &mut String, memory: &[Memory]) -> std::fmt::Result {
    writeln!(
        page,
        "Proportional set size of the processes, guests at rest; least and most where there are several. The controller \
         has a leader and a replica that stands by.\n"
    )?;
    writeln!(page, "| Instances | virga-controller | virga-agent |\n|---:|---:|---:|")?;
    for moment in memory {
        let cell = |name| match moment.range(name) {
            Some((least, most)) => format!("{} to {} MiB", mib(least), mib(most)),
            None => "not measured".to_owned(),
        };
        let (controller, agent) = (cell("virga-controller"), cell("virga-agent"));
        writeln!(page, "| {} | {controller} | {agent} |", moment.instances)?;
    }
    Ok(())
}

/// In milliseconds, as the page has it.
pub fn ms(times: &[Duration], percent: usize) -> String {
    quantile(times, percent).map_or_else(|| "not measured".to_owned(), |time| format!("{} ms", time.as_millis()))
}

/// Of 1,024 as one, for people.
pub fn mib(kib: u64) -> String {
    format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024)
}
