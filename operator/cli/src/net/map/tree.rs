//! How is it told to people? A branch for each Router and Network; what is too much is counted.

use std::io::{self, Write};

use virga_crds::{NetworkScope, PortSecurity, Snat};

use super::{BalancerDrawn, FloatingDrawn, Holder, Lead, Map, NetworkDrawn, PortDrawn, RouterDrawn};
use crate::words::printable;

/// So few more are shown instead of counted.
const NOT_WORTH_COUNTING: usize = 2;

/// Prints the map, with at most so many Ports of each Network.
pub fn text(map: &Map, ports: usize, out: &mut dyn Write) -> io::Result<()> {
    let counts = [
        counted(map.networks.len(), "Network"),
        counted(map.routers.len(), "Router"),
        counted(map.networks.iter().map(|network| network.ports.len()).sum(), "Port"),
        counted(map.load_balancers.len(), "LoadBalancer"),
        counted(map.floating_ips.len(), "FloatingIP"),
    ];
    writeln!(out, "Namespace {}: {}", shown(&map.namespace), counts.join(", "))?;
    for unread in &map.unread {
        writeln!(out, "Not read: {}: {}; {}", shown(&unread.what), unread.why, unread.so)?;
    }
    for router in &map.routers {
        routed(router).print(out)?;
    }
    for network in &map.networks {
        wired(network, ports).print(out)?;
    }
    for balancer in &map.load_balancers {
        balanced(balancer, ports).print(out)?;
    }
    if !map.floating_ips.is_empty() {
        let mut branch = Branch::new("FloatingIPs".to_owned());
        branch.rows(map.floating_ips.iter().map(floating).collect());
        for floating in &map.floating_ips {
            if let Some(problem) = &floating.problem {
                branch.line(format!("! {}: {problem}", floating.name));
            }
        }
        branch.print(out)?;
    }
    Ok(())
}

/// A line, and what hangs on it.
struct Branch {
    title: String,
    /// Rows of one kind have their columns below each other.
    kinds: Vec<Vec<Vec<String>>>,
}

impl Branch {
    fn new(title: String) -> Self {
        Self {
            title,
            kinds: Vec::new(),
        }
    }

    fn rows(&mut self, rows: Vec<Vec<String>>) {
        self.kinds.push(rows);
    }

    fn line(&mut self, text: String) {
        self.rows(vec![vec![text]]);
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "\n{}", shown(&self.title))?;
        let mut lines = Vec::new();
        for rows in &self.kinds {
            let rows: Vec<Vec<String>> = rows
                .iter()
                .map(|row| row.iter().map(|cell| shown(cell)).collect())
                .collect();
            let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
            let width = |column: usize| {
                let cells = rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            };
            let widths: Vec<usize> = (0..columns).map(width).collect();
            for row in &rows {
                // A column in which nobody has anything is none.
                let cells = row.iter().zip(&widths).filter(|(_, width)| **width > 0);
                let cells: Vec<String> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
                lines.push(cells.join("   ").trim_end().to_owned());
            }
        }
        for (at, line) in lines.iter().enumerate() {
            let mark = if at + 1 == lines.len() { "└─" } else { "├─" };
            writeln!(out, "{mark} {line}")?;
        }
        Ok(())
    }
}

fn routed(router: &RouterDrawn) -> Branch {
    let mut branch = Branch::new(format!("Router {}", router.name));
    if let Some(problem) = &router.problem {
        branch.line(format!("! {problem}"));
    }
    let outside = router.outside.iter().map(|outside| {
        let own = match outside.snat {
            Snat::Enabled => "guests go out with it",
            Snat::Disabled => "guests go out with their own addresses",
        };
        let hosts = match outside.hosts.split_first() {
            None => String::new(),
            Some((first, [])) => format!("on {first}"),
            Some((first, others)) => format!("on {first}, else {}", others.join(", ")),
        };
        vec![
            "outside".to_owned(),
            outside.network.clone(),
            addresses(&outside.addresses),
            format!("{own} {hosts}").trim_end().to_owned(),
        ]
    });
    let networks = router.networks.iter().map(|joined| {
        vec![
            "network".to_owned(),
            joined.network.clone(),
            addresses(&joined.addresses),
        ]
    });
    let ways = router.routes.iter().map(|route| {
        vec![
            "route".to_owned(),
            route.destination.clone(),
            format!("by {}", route.next_hop),
        ]
    });
    branch.rows(outside.chain(networks).chain(ways).collect());
    branch
}

fn wired(network: &NetworkDrawn, most: usize) -> Branch {
    let mut about = vec![network.type_.clone()];
    about.extend(network.mtu.map(|mtu| format!("MTU {mtu}")));
    about.extend(network.dns_domain.clone());
    about.extend((network.scope == NetworkScope::External).then(|| "scope External".to_owned()));
    about.extend((network.port_security == PortSecurity::Disabled).then(|| "portSecurity Disabled".to_owned()));
    let mut branch = Branch::new(format!("Network {}   {}", network.name, about.join(", ")));
    if let Some(problem) = &network.problem {
        branch.line(format!("! {problem}"));
    }
    let subnets = network.subnets.iter().map(|subnet| {
        let gateway = match (&subnet.gateway, &subnet.router) {
            (None, _) => "no gateway".to_owned(),
            (Some(gateway), Some(router)) => format!("gateway {gateway}, Router {router}"),
            (Some(gateway), None) => format!("gateway {gateway}"),
        };
        let used = subnet.used.zip(subnet.total);
        let used = used
            .map(|(used, total)| format!("{used} of {total} used"))
            .unwrap_or_default();
        vec![
            "subnet".to_owned(),
            subnet.name.clone(),
            subnet.cidr.clone(),
            gateway,
            used,
        ]
    });
    branch.rows(subnets.collect());
    let count = network.ports.len();
    let most = if count <= most + NOT_WORTH_COUNTING {
        count
    } else {
        most
    };
    let (first, rest) = network.ports.split_at(most);
    branch.rows(first.iter().map(plugged).collect());
    let problems = first.iter().filter_map(|port| Some((port, port.problem.as_ref()?)));
    for (port, problem) in problems {
        branch.line(format!("! Port {}: {problem}", port.name));
    }
    if !rest.is_empty() {
        branch.line(summed(rest, most > 0));
    }
    branch
}

fn plugged(port: &PortDrawn) -> Vec<String> {
    let outer = match port.floating_ips.as_slice() {
        [] => String::new(),
        some => format!("from outside {}", some.join(", ")),
    };
    vec![
        "port".to_owned(),
        port.name.clone(),
        addresses(&port.addresses),
        port.holder.as_ref().map_or_else(|| "no Instance".to_owned(), held),
        port.node.clone().unwrap_or_default(),
        state(port).to_owned(),
        port.security_groups.join(", "),
        outer,
    ]
}

fn balanced(balancer: &BalancerDrawn, most: usize) -> Branch {
    let title = format!(
        "LoadBalancer {}   {} of Network {}",
        balancer.name,
        addresses(&balancer.addresses),
        balancer.network
    );
    let outer = match balancer.floating_ips.as_slice() {
        [] => String::new(),
        some => format!("   from outside {}", some.join(", ")),
    };
    let mut branch = Branch::new(title + &outer);
    if let Some(problem) = &balancer.problem {
        branch.line(format!("! {problem}"));
    }
    let listeners = balancer.listeners.iter();
    branch.rows(
        listeners
            .map(|listener| vec!["listener".to_owned(), listener.words()])
            .collect(),
    );
    let count = balancer.members.len();
    let most = if count <= most + NOT_WORTH_COUNTING {
        count
    } else {
        most
    };
    let members = balancer.members[..most].iter().map(|member| {
        let instance = member.instance.as_ref().map(|instance| format!("Instance {instance}"));
        vec![
            "member".to_owned(),
            member.address.clone(),
            instance.unwrap_or_default(),
            format!("{:?}", member.state),
        ]
    });
    branch.rows(members.collect());
    if most < count {
        let more = if most > 0 { "more " } else { "" };
        branch.line(format!(
            "{} {more}members, {} of all {count} are sent connections; --ports says how many are shown",
            count - most,
            balancer.online
        ));
    }
    branch
}

fn state(port: &PortDrawn) -> &'static str {
    match port.up {
        Some(true) => "up",
        Some(false) => "down",
        None => "",
    }
}

fn summed(rest: &[PortDrawn], more: bool) -> String {
    let of = |up| rest.iter().filter(|port| port.up == up).count();
    let wrong = rest.iter().filter(|port| port.problem.is_some()).count();
    let parts = [
        (of(Some(true)), "up"),
        (of(Some(false)), "down"),
        (wrong, "with a problem"),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let more = if more { "more " } else { "" };
    let plural = if rest.len() == 1 { "" } else { "s" };
    let states = if parts.is_empty() {
        String::new()
    } else {
        format!(": {}", parts.join(", "))
    };
    format!(
        "{} {more}Port{plural}{states}; --ports says how many are shown",
        rest.len()
    )
}

fn floating(floating: &FloatingDrawn) -> Vec<String> {
    let leads = match floating.leads.as_slice() {
        [] => "leads nowhere".to_owned(),
        leads => leads.iter().map(lead).collect::<Vec<_>>().join(", "),
    };
    let router = floating.router.as_ref().map(|router| format!("by Router {router}"));
    vec![
        floating.name.clone(),
        floating.address.clone().unwrap_or_else(|| "no address yet".to_owned()),
        format!("of {}", floating.network),
        leads,
        router.unwrap_or_default(),
    ]
}

fn lead(lead: &Lead) -> String {
    let to = held(&lead.to);
    match (lead.protocol, lead.external_port, lead.internal_port, &lead.address) {
        (Some(protocol), Some(outer), Some(inner), _) => {
            format!(
                "{} {outer} to {to} port {inner}",
                format!("{protocol:?}").to_uppercase()
            )
        }
        (.., Some(address)) => format!("to {to} {address}"),
        _ => format!("to {to}"),
    }
}

fn held(holder: &Holder) -> String {
    format!("{} {}", holder.kind, holder.name)
}

fn addresses(all: &[String]) -> String {
    if all.is_empty() {
        "no address".to_owned()
    } else {
        all.join(", ")
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// On one line, and nothing that commands the terminal.
fn shown(text: &str) -> String {
    printable(text).replace('\n', " ")
}
