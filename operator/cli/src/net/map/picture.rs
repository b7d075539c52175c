//! How is it drawn? The outside on the left, Routers in the middle, Networks with their Ports on the right, LoadBalancers below
//! them. However much there is, the picture has a largest size: what is too much is counted.

use std::{collections::BTreeMap, fmt::Write as _};

use virga_crds::MemberState;

use super::{BalancerDrawn, ListenerDrawn, Map, NetworkDrawn, RouterDrawn};
use crate::words::{escaped, shortened};

const MARGIN: usize = 24;
const TOP: usize = 64;
const OUTSIDE: (usize, usize) = (MARGIN, 190);
const ROUTER: (usize, usize) = (320, 210);
const NETWORK: (usize, usize) = (660, 640);
const LINE: usize = 18;
const GAP: usize = 22;
const BOX: usize = 46;
/// The most that is drawn of each.
const MOST_BOXES: usize = 40;
const MOST_PORTS: usize = 12;
/// How many characters fit.
const NAME_CHARS: usize = 26;
const WIDE_CHARS: usize = 88;

const COLOURS: [&str; 6] = ["#2b6cb0", "#2f855a", "#b7791f", "#805ad5", "#c05621", "#2c7a7b"];
const GREY: &str = "#718096";
const RED: &str = "#c53030";

/// An SVG picture.
pub fn svg(map: &Map) -> String {
    let networks: Vec<&NetworkDrawn> = ordered(map).into_iter().take(MOST_BOXES).collect();
    let routers = &map.routers[..map.routers.len().min(MOST_BOXES)];
    let outside = outside(map);
    let heights: Vec<usize> = networks.iter().map(|network| height(network)).collect();
    let balancers = &map.load_balancers[..map.load_balancers.len().min(MOST_BOXES)];
    let below: Vec<usize> = balancers.iter().map(height_of).collect();
    let right: usize = heights.iter().chain(&below).map(|height| height + GAP).sum();
    let middle = routers.len() * (BOX + GAP);
    let left = outside.len() * (BOX + GAP);
    let tallest = right.max(middle).max(left).max(BOX);
    let (width, height) = (NETWORK.0 + NETWORK.1 + MARGIN, TOP + tallest + LINE + MARGIN);
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#1a202c\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(
        &mut out,
        (MARGIN, 34),
        "font-size=\"16\" font-weight=\"bold\"",
        &format!("Networks of {}", shortened(&map.namespace, WIDE_CHARS)),
    );
    // What is lower than the tallest column stands in the middle of it.
    let place = |own: usize, at: usize| TOP + (tallest - own) / 2 + at * (BOX + GAP);
    let tops: Vec<usize> = heights
        .iter()
        .chain(&below)
        .scan(TOP + (tallest - right.min(tallest)) / 2, |next, height| {
            let top = *next;
            *next += height + GAP;
            Some(top)
        })
        .collect();
    lines(
        &mut out,
        routers,
        &networks,
        &outside,
        &tops,
        &|column, at| match column {
            Column::Outside => place(left, at) + BOX / 2,
            Column::Router => place(middle, at) + BOX / 2,
        },
    );
    for (at, name) in outside.iter().enumerate() {
        boxed(&mut out, OUTSIDE, place(left, at), BOX, GREY);
        let y = place(left, at) + 20;
        text(
            &mut out,
            (OUTSIDE.0 + 10, y),
            "font-weight=\"bold\"",
            &shortened(name, NAME_CHARS),
        );
        let held = map
            .floating_ips
            .iter()
            .filter(|floating| floating.network == *name)
            .count();
        if held > 0 {
            let note = format!("{held} floating IP{}", if held == 1 { "" } else { "s" });
            text(&mut out, (OUTSIDE.0 + 10, y + LINE), SMALL, &note);
        }
    }
    for (at, router) in routers.iter().enumerate() {
        let colour = if router.problem.is_some() { RED } else { "#1a202c" };
        boxed(&mut out, ROUTER, place(middle, at), BOX, colour);
        let y = place(middle, at) + 20;
        text(
            &mut out,
            (ROUTER.0 + 10, y),
            "font-weight=\"bold\"",
            &shortened(&router.name, NAME_CHARS),
        );
        let note = router.problem.clone().unwrap_or_else(|| "Router".to_owned());
        text(
            &mut out,
            (ROUTER.0 + 10, y + LINE),
            SMALL,
            &shortened(&note, NAME_CHARS + 8),
        );
    }
    for (at, network) in networks.iter().enumerate() {
        block(&mut out, tops[at], heights[at], network, COLOURS[at % COLOURS.len()]);
    }
    for (at, balancer) in balancers.iter().enumerate() {
        let colour = networks.iter().position(|network| network.name == balancer.network);
        let colour = colour.map_or(GREY, |at| COLOURS[at % COLOURS.len()]);
        shared_out(&mut out, tops[networks.len() + at], below[at], balancer, colour);
    }
    let mut left_out = Vec::new();
    left_out.extend(more(map.networks.len() - networks.len(), "Network"));
    left_out.extend(more(map.routers.len() - routers.len(), "Router"));
    left_out.extend(more(map.load_balancers.len() - balancers.len(), "LoadBalancer"));
    if !left_out.is_empty() {
        let note = format!("Not drawn: {}", left_out.join(", "));
        text(&mut out, (MARGIN, height - MARGIN / 2), SMALL, &note);
    }
    out.push_str("</svg>\n");
    out
}

const SMALL: &str = "font-size=\"10\" fill=\"#718096\"";

#[derive(Clone, Copy)]
enum Column {
    Outside,
    Router,
}

/// Networks of one Router stand together.
fn ordered(map: &Map) -> Vec<&NetworkDrawn> {
    let mut first = BTreeMap::<&str, usize>::new();
    for (at, router) in map.routers.iter().enumerate() {
        for joined in &router.networks {
            first.entry(&joined.network).or_insert(at);
        }
    }
    let mut networks: Vec<&NetworkDrawn> = map.networks.iter().collect();
    networks.sort_by_key(|network| first.get(network.name.as_str()).copied().unwrap_or(usize::MAX));
    networks
}

/// The Networks outside that anything leads to.
fn outside(map: &Map) -> Vec<String> {
    let of_routers = map.routers.iter().filter_map(|router| router.outside.as_ref());
    let names = of_routers.map(|outside| &outside.network);
    let names = names.chain(map.floating_ips.iter().map(|floating| &floating.network));
    let mut names: Vec<String> = names.cloned().collect();
    names.sort();
    names.dedup();
    names.truncate(MOST_BOXES);
    names
}

fn height(network: &NetworkDrawn) -> usize {
    let ports = network.ports.len();
    let rows = ports.min(MOST_PORTS) + usize::from(ports > MOST_PORTS);
    34 + LINE * (network.subnets.len() + rows + usize::from(network.problem.is_some())) + 8
}

fn height_of(balancer: &BalancerDrawn) -> usize {
    let members = balancer.members.len();
    let rows = members.min(MOST_PORTS) + usize::from(members > MOST_PORTS);
    34 + LINE * (1 + rows + usize::from(balancer.problem.is_some())) + 8
}

fn lines(
    out: &mut String,
    routers: &[RouterDrawn],
    networks: &[&NetworkDrawn],
    outside: &[String],
    tops: &[usize],
    middle: &dyn Fn(Column, usize) -> usize,
) {
    for (at, router) in routers.iter().enumerate() {
        let y = middle(Column::Router, at);
        if let Some(way) = &router.outside
            && let Some(place) = outside.iter().position(|name| *name == way.network)
        {
            let from = (OUTSIDE.0 + OUTSIDE.1, middle(Column::Outside, place));
            curve(out, from, (ROUTER.0, y), GREY);
            let label = shortened(&way.addresses.join(", "), NAME_CHARS);
            text(
                out,
                (ROUTER.0 - 8, y - 5),
                "font-size=\"10\" text-anchor=\"end\"",
                &label,
            );
        }
        for joined in &router.networks {
            let Some(place) = networks.iter().position(|network| network.name == joined.network) else {
                continue;
            };
            let to = (NETWORK.0, tops[place] + 18);
            curve(out, (ROUTER.0 + ROUTER.1, y), to, COLOURS[place % COLOURS.len()]);
        }
    }
}

fn block(out: &mut String, top: usize, height: usize, network: &NetworkDrawn, colour: &str) {
    let (left, width) = NETWORK;
    boxed(out, NETWORK, top, height, colour);
    let _ = writeln!(
        out,
        "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"26\" rx=\"6\" fill=\"{colour}\" fill-opacity=\"0.15\"/>"
    );
    let mut y = top + 18;
    text(
        out,
        (left + 10, y),
        "font-weight=\"bold\"",
        &shortened(&network.name, 40),
    );
    let about = shortened(&network.type_, 40);
    text(
        out,
        (left + width - 10, y),
        "font-size=\"10\" text-anchor=\"end\"",
        &about,
    );
    y += 6;
    if let Some(problem) = &network.problem {
        y += LINE;
        text(out, (left + 10, y), "fill=\"#c53030\"", &shortened(problem, WIDE_CHARS));
    }
    for subnet in &network.subnets {
        y += LINE;
        let gateway = match (&subnet.gateway, &subnet.router) {
            (None, _) => "no gateway".to_owned(),
            (Some(gateway), Some(router)) => format!("gateway {gateway}, Router {router}"),
            (Some(gateway), None) => format!("gateway {gateway}"),
        };
        let line = format!("{}: {}, {gateway}", subnet.name, subnet.cidr);
        text(out, (left + 10, y), "fill=\"#4a5568\"", &shortened(&line, WIDE_CHARS));
    }
    for port in network.ports.iter().take(MOST_PORTS) {
        y += LINE;
        let (dot, what) = match (port.problem.is_some(), port.up) {
            (true, _) => (RED, "has a problem"),
            (false, Some(true)) => ("#2f855a", "up"),
            (false, Some(false)) => ("#a0aec0", "down"),
            (false, None) => ("#1a202c", "not said whether up"),
        };
        let _ = writeln!(
            out,
            "<circle cx=\"{}\" cy=\"{}\" r=\"4\" fill=\"{dot}\"><title>{what}</title></circle>",
            left + 16,
            y - 4
        );
        let holder = port.holder.as_ref();
        let who = holder.map_or_else(
            || format!("Port {}, no Instance", port.name),
            |holder| format!("{} {}", holder.kind, holder.name),
        );
        text(out, (left + 28, y), "", &shortened(&who, 34));
        text(out, (left + 260, y), "", &shortened(&port.addresses.join(", "), 34));
        if !port.floating_ips.is_empty() {
            let outer = format!("⇄ {}", port.floating_ips.join(", "));
            text(
                out,
                (left + width - 10, y),
                "text-anchor=\"end\"",
                &shortened(&outer, 24),
            );
        }
    }
    if let Some(more) = more(network.ports.len().saturating_sub(MOST_PORTS), "more Port") {
        text(out, (left + 28, y + LINE), "fill=\"#718096\"", &format!("and {more}"));
    }
}

/// A LoadBalancer, in the colour of its Network.
fn shared_out(out: &mut String, top: usize, height: usize, balancer: &BalancerDrawn, colour: &str) {
    let (left, width) = NETWORK;
    boxed(out, NETWORK, top, height, colour);
    let mut y = top + 18;
    let title = format!("LoadBalancer {}", balancer.name);
    text(out, (left + 10, y), "font-weight=\"bold\"", &shortened(&title, 40));
    let outer = balancer.floating_ips.iter().map(|outer| format!(" ⇄ {outer}"));
    let own = balancer.addresses.join(", ");
    let about = format!("{own}{} in {}", outer.collect::<String>(), balancer.network);
    text(
        out,
        (left + width - 10, y),
        "font-size=\"10\" text-anchor=\"end\"",
        &shortened(&about, 60),
    );
    y += 6;
    if let Some(problem) = &balancer.problem {
        y += LINE;
        text(out, (left + 10, y), "fill=\"#c53030\"", &shortened(problem, WIDE_CHARS));
    }
    y += LINE;
    let listeners: Vec<String> = balancer.listeners.iter().map(ListenerDrawn::words).collect();
    let listeners = format!("listens to {}", listeners.join(", "));
    text(
        out,
        (left + 10, y),
        "fill=\"#4a5568\"",
        &shortened(&listeners, WIDE_CHARS),
    );
    for member in balancer.members.iter().take(MOST_PORTS) {
        y += LINE;
        let dot = match member.state {
            MemberState::Online | MemberState::NoHealthCheck => "#2f855a",
            MemberState::Degraded | MemberState::Unknown => "#b7791f",
            MemberState::Stopped => "#a0aec0",
            MemberState::Offline | MemberState::Unreachable => RED,
        };
        let what = format!("{:?}", member.state);
        let _ = writeln!(
            out,
            "<circle cx=\"{}\" cy=\"{}\" r=\"4\" fill=\"{dot}\"><title>{what}</title></circle>",
            left + 16,
            y - 4
        );
        let instance = member.instance.as_ref().map(|name| format!("Instance {name}"));
        let who = instance.unwrap_or_else(|| "by address".to_owned());
        text(out, (left + 28, y), "", &shortened(&who, 34));
        text(out, (left + 260, y), "", &shortened(&member.address, 34));
        text(out, (left + width - 10, y), "text-anchor=\"end\"", &what);
    }
    if let Some(more) = more(balancer.members.len().saturating_sub(MOST_PORTS), "more member") {
        text(out, (left + 28, y + LINE), "fill=\"#718096\"", &format!("and {more}"));
    }
}

fn boxed(out: &mut String, (left, width): (usize, usize), top: usize, height: usize, colour: &str) {
    let _ = writeln!(
        out,
        "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"#ffffff\" stroke=\"{colour}\"/>"
    );
}

fn curve(out: &mut String, from: (usize, usize), to: (usize, usize), colour: &str) {
    let half = usize::midpoint(from.0, to.0);
    let _ = writeln!(
        out,
        "<path d=\"M {} {} C {half} {} {half} {} {} {}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
        from.0, from.1, from.1, to.1, to.0, to.1
    );
}

fn text(out: &mut String, (x, y): (usize, usize), style: &str, text: &str) {
    let blank = if style.is_empty() { "" } else { " " };
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\"{blank}{style}>{}</text>", escaped(text));
}

fn more(count: usize, what: &str) -> Option<String> {
    (count > 0).then(|| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
}
