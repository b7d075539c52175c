//! Which way does a packet go, and who drops it? The rules are `virga_core`'s.

use std::io::{self, Write};

use virga_core::trace::{self, Does, Family, Protocol, Question, Step, Trace, Verdict, World};

use super::{Error, Objects};
use crate::{
    flags::{Sent, TraceArgs},
    words::{Table, printable},
};

impl From<&TraceArgs> for Question {
    fn from(args: &TraceArgs) -> Self {
        Self {
            from: args.from.clone(),
            to: args.to.clone(),
            protocol: match args.proto {
                Sent::Tcp => Protocol::Tcp,
                Sent::Udp => Protocol::Udp,
                Sent::Sctp => Protocol::Sctp,
                Sent::Icmp => Protocol::Icmp,
            },
            port: args.port,
            family: args.ipv6.then_some(Family::V6),
        }
    }
}

/// Answers, by what was read. What is missing would look as if it dropped the packet, so all has to be there.
pub fn of(objects: &Objects, question: &Question) -> Result<Trace, Error> {
    if let Some(unread) = objects.unread.first() {
        return Err(Error::Unread(unread.what.clone(), unread.why.clone()));
    }
    let world = World::new(trace::Objects {
        namespace: &objects.namespace,
        networks: &objects.networks,
        ports: &objects.ports,
        routers: &objects.routers,
        floating_ips: &objects.floating_ips,
        load_balancers: &objects.load_balancers,
        security_groups: &objects.security_groups,
        address_groups: &objects.address_groups,
        instances: &objects.instances,
    });
    Ok(trace::trace(&world, question)?)
}

/// Prints an answer.
pub fn text(trace: &Trace, out: &mut dyn Write) -> io::Result<()> {
    let mut line = |label: &str, text: &str| writeln!(out, "{label:<7} {}", printable(text).replace('\n', " "));
    line("From:", &trace.from)?;
    line("To:", &trace.to)?;
    line("Packet:", &trace.packet.to_string())?;
    steps(&trace.steps, out)?;
    let told = |label: &str, text: &str| format!("{label}: {}", printable(text).replace('\n', " "));
    for member in &trace.members {
        let address = member.address.to_string();
        let who = member
            .instance
            .as_ref()
            .map_or(address.clone(), |name| format!("{name}, {address}"));
        writeln!(out, "{}", told("Member", &format!("{who}, {:?}", member.state)))?;
        steps(&member.steps, out)?;
    }
    let dropped = trace.members.iter().filter(|member| member.verdict == Verdict::Drops);
    let verdict = match (trace.verdict, dropped.count(), trace.members.len()) {
        (Verdict::Passes, _, 0) => "It passes.".to_owned(),
        (Verdict::Passes, _, 1) => "It passes to its member.".to_owned(),
        (Verdict::Passes, _, all) => format!("It passes to each of {all} members."),
        (Verdict::Drops, dropped, all) if dropped < all => {
            format!("It is dropped on the way to {dropped} of {all} members.")
        }
        (Verdict::Drops, ..) => "It is dropped.".to_owned(),
    };
    writeln!(out, "{verdict}")?;
    if let Some(cure) = &trace.cure {
        writeln!(out, "{}", told("Cure", cure))?;
    }
    for note in &trace.notes {
        writeln!(out, "{}", told("Note", note))?;
    }
    Ok(())
}

fn steps(steps: &[Step], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(["AT", "", "WHAT"]);
    for step in steps {
        let does = match step.does {
            Does::Passes => "",
            Does::Translates => "~",
            Does::Drops => "✗",
        };
        table.row([format!("{} {}", step.kind, step.name).as_str(), does, &step.says]);
    }
    writeln!(out)?;
    table.print(out)?;
    writeln!(out)
}
