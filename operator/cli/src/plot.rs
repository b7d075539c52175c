//! How full would the hosts be, as a picture? Bars for few hosts, a square each for many.

use std::fmt::Write as _;

use crate::{
    usage::{Amount, HostUse},
    words::{escaped, shortened},
};

/// With more hosts each gets a square instead of bars.
const MOST_BARS: usize = 60;
const MARGIN: usize = 24;
/// Where the first host is drawn; above it are title and legend.
const TOP: usize = 72;
const COLUMN: usize = 480;
const NAME: usize = 150;
/// As much of a name as fits beside its bars.
const NAME_CHARS: usize = 20;
const BAR: usize = 250;
const ROW: usize = 40;
/// How wide all squares of a panel are together.
const PANEL: usize = 420;

/// The three resources: what each is called, its colour, and where it is read.
type Resource = (&'static str, &'static str, fn(&HostUse) -> Amount);
const RESOURCES: [Resource; 3] = [
    ("vCPUs", "#2b6cb0", |host| host.vcpus),
    ("memory", "#2f855a", |host| host.memory),
    ("disk", "#b7791f", |host| host.disk),
];
/// What is promised beyond the limit.
const TOO_MUCH: &str = "#c53030";

/// An SVG picture with a column for each profile: its name, and the hosts.
pub fn svg(columns: &[(&str, &[HostUse])]) -> String {
    let most = columns.iter().map(|(_, hosts)| hosts.len()).max().unwrap_or(0);
    let (many, height) = if most > MOST_BARS {
        (true, 3 * (panel_height(most) + 40))
    } else {
        (false, most * ROW)
    };
    let (width, height) = (2 * MARGIN + columns.len().max(1) * COLUMN, TOP + height + MARGIN);
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#1a202c\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (at, (name, hosts)) in columns.iter().enumerate() {
        let x = MARGIN + at * COLUMN;
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"30\" font-size=\"16\" font-weight=\"bold\">{}: {} hosts</text>",
            escaped(name),
            hosts.len()
        );
        if many {
            squares(&mut out, x, hosts);
        } else {
            legend(&mut out, x);
            bars(&mut out, x, hosts);
        }
    }
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String, x: usize) {
    for (at, (name, colour, _)) in RESOURCES.iter().enumerate() {
        let x = x + NAME + at * 90;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"46\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{}\" y=\"55\">{name}</text>",
            x + 15
        );
    }
}

fn bars(out: &mut String, x: usize, hosts: &[HostUse]) {
    for (at, host) in hosts.iter().enumerate() {
        let y = TOP + at * ROW;
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"{}\">{}</text><text x=\"{x}\" y=\"{}\" font-size=\"10\" fill=\"#718096\">{} · {}</text>",
            y + 12,
            escaped(&shortened(&host.name, NAME_CHARS)),
            y + 26,
            escaped(&host.zone),
            counted(host.instances),
        );
        for (line, (name, colour, of)) in RESOURCES.iter().enumerate() {
            let fill = of(host).fill();
            let (x, y) = (x + NAME, y + line * 11);
            let colour = if fill > 1.0 { TOO_MUCH } else { colour };
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{BAR}\" height=\"8\" fill=\"#edf2f7\"/>\
                 <rect x=\"{x}\" y=\"{y}\" width=\"{:.1}\" height=\"8\" fill=\"{colour}\">\
                 <title>{} {name}: {}</title></rect>\
                 <text x=\"{}\" y=\"{}\" font-size=\"9\" fill=\"#4a5568\">{}</text>",
                250.0 * fill.min(1.0),
                escaped(&host.name),
                percent(fill),
                x + BAR + 6,
                y + 8,
                percent(fill),
            );
        }
    }
}

fn squares(out: &mut String, x: usize, hosts: &[HostUse]) {
    let (across, side) = grid(hosts.len());
    for (panel, (name, colour, of)) in RESOURCES.iter().enumerate() {
        let top = TOP + panel * (panel_height(hosts.len()) + 40);
        let used: u128 = hosts.iter().map(|host| of(host).used).sum();
        let limit: u128 = hosts.iter().map(|host| of(host).limit).sum();
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"{}\">{name}: {} of all, each square a host, the darker the fuller</text>",
            top - 6,
            percent(Amount { used, limit }.fill())
        );
        for (at, host) in hosts.iter().enumerate() {
            let fill = of(host).fill();
            let (colour, shade) = if fill > 1.0 {
                (TOO_MUCH, 1.0)
            } else {
                (*colour, 0.06 + 0.94 * fill)
            };
            let _ = writeln!(
                out,
                "<rect x=\"{}\" y=\"{}\" width=\"{side}\" height=\"{side}\" fill=\"{colour}\" fill-opacity=\"{shade:.2}\">\
                 <title>{} {name}: {}</title></rect>",
                x + (at % across) * (side + 1),
                top + (at / across) * (side + 1),
                escaped(&host.name),
                percent(fill),
            );
        }
    }
}

/// How many squares stand side by side, and how large each is.
fn grid(hosts: usize) -> (usize, usize) {
    // Twice as wide as high.
    let across = (hosts * 2).isqrt().max(1);
    (across, (PANEL / across).saturating_sub(1).clamp(2, 16))
}

fn panel_height(hosts: usize) -> usize {
    let (across, side) = grid(hosts);
    hosts.div_ceil(across) * (side + 1)
}

fn percent(fill: f64) -> String {
    format!("{:.0}%", fill * 100.0)
}

fn counted(instances: u32) -> String {
    format!("{instances} Instance{}", if instances == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quick_xml::{Reader, events::Event};

    fn hosts(count: u32) -> Vec<HostUse> {
        let host = |at: u32| HostUse {
            name: format!("node-{at}"),
            zone: "nova".into(),
            instances: at,
            vcpus: Amount {
                used: u128::from(at),
                limit: 10,
            },
            memory: Amount::default(),
            disk: Amount { used: 3, limit: 4 },
            units: std::collections::BTreeMap::new(),
        };
        (0..count).map(host).collect()
    }

    /// The number of elements of a document that must be well-formed.
    fn elements(svg: &str) -> usize {
        let mut reader = Reader::from_str(svg);
        reader.config_mut().check_end_names = true;
        let mut count = 0;
        loop {
            match reader.read_event().unwrap() {
                Event::Start(tag) | Event::Empty(tag) => {
                    tag.attributes().for_each(|attribute| drop(attribute.unwrap()));
                    count += 1;
                }
                Event::Eof => return count,
                _ => {}
            }
        }
    }

    #[test]
    fn the_picture_is_well_formed_whatever_it_is_called() {
        let hosts = hosts(12);
        let svg = svg(&[("<&\"\u{1b}.yaml", &hosts), ("standard", &hosts)]);
        // Per host two texts, and per resource two bars, a title and a text.
        assert_eq!(elements(&svg), 2 + 2 * (1 + 6 + 12 * (2 + 3 * 4)));
        assert!(svg.contains("fill=\"#c53030\""), "node-11 has more than there is");
        assert_eq!(elements(&super::svg(&[])), 2);
    }

    #[test]
    fn many_hosts_are_squares() {
        let hosts = hosts(1000);
        let svg = svg(&[("standard", &hosts)]);
        assert_eq!(elements(&svg), 2 + 1 + 3 * (1 + 1000 * 2));
    }
}
