//! The page that tells what was measured.

use std::fmt::Write as _;
use std::time::Duration;

use super::Measured;
use super::quantile::quantile;

/// docs/performance.md.
pub fn page(measured: &Measured) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut page, measured);
    page
}

fn write(page: &mut String, measured: &Measured) -> std::fmt::Result {
    let Measured {
        machine,
        rounds,
        placements,
        starts,
        memory,
    } = measured;
    writeln!(
        page,
        "# Performance\n\n<!-- Made by `cargo xtask bench`; do not edit. -->\n"
    )?;
    writeln!(
        page,
        "Measured on {} with `cargo xtask bench --rounds {rounds}`, in the lab of {} nodes that `make demo` leaves, on one \
         machine: {} × {}, {} GiB of memory, Linux {}. {}; guests run under emulation (TCG), not KVM. Controller and agent \
         are release builds. The machine's load average was {}: on a machine that has other work to do, times are longer.\n",
        machine.date,
        machine.nodes,
        machine.processors,
        machine.processor,
        machine.memory_gib,
        machine.kernel,
        machine.hypervisor,
        machine.load
    )?;

    writeln!(page, "## From create to running\n")?;
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
         its time is libvirt's, which starts dnsmasq anew for each new DHCP entry.\n"
    )?;
    writeln!(page, "| step | mean |\n|---|---:|")?;
    for (step, mean) in &starts.steps {
        writeln!(page, "| `{step}` | {} ms |", mean.as_millis())?;
    }

    writeln!(page, "\n## API writes for one Instance\n")?;
    writeln!(
        page,
        "From create until 3 s after it runs, as the apiserver counts them, on average over the {rounds} rounds. What \
         is written of it elsewhere, such as how many addresses of the Network are taken, is counted too.\n"
    )?;
    writeln!(page, "| resource | writes |\n|---|---:|")?;
    for (resource, count) in &starts.writes {
        let average = f64::from(u32::try_from(*count).unwrap_or(u32::MAX)) / f64::from((*rounds).max(1));
        writeln!(page, "| `{resource}` | {average:.1} |")?;
    }

    writeln!(page, "\n## Placements\n")?;
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

    writeln!(page, "\n## Memory\n")?;
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

fn ms(times: &[Duration], percent: usize) -> String {
    quantile(times, percent).map_or_else(|| "not measured".to_owned(), |time| format!("{} ms", time.as_millis()))
}

fn mib(kib: u64) -> String {
    format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024)
}
