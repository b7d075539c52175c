//! Do guests lose packets while what steers their networks is away, and for how long when their gateway dies?

use std::process::{Child, Stdio};
use std::time::Duration;

use virga_lab::{Ovn, OvnDaemon};

use super::scene::Scene;
use crate::node_loss::{Powered, all_pods_are_ready};

/// Between two pings.
const PACE: Duration = Duration::from_millis(200);
/// The chassis ask each other by BFD every second, and take five that are missed for a death.
const FOLLOWED: Duration = Duration::from_secs(15);

/// Pings from outside, of which each has a number.
struct Pings(Child);

impl Pings {
    fn start(ovn: &Ovn, address: &str, lasting: Duration) -> Self {
        let count = (lasting.as_millis() / PACE.as_millis()).to_string();
        let pace = PACE.as_secs_f64().to_string();
        let words = ["busybox", "ping", "-c", &count, "-i", &pace, "-W", "1", address];
        let mut command = ovn.outside(&words).unwrap();
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Waits for the last one. The answer has those that were sent, and the longest time without an answer.
    fn end(self) -> (usize, Duration) {
        let output = self.0.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let number = |line: &str| line.split_once("seq=")?.1.split_once(' ')?.0.parse::<u32>().ok();
        let answered: Vec<u32> = said.lines().filter_map(number).collect();
        let sent = said.lines().find_map(|line| line.split_once(" packets transmitted"));
        let sent: u32 = sent.unwrap_or_else(|| panic!("{said}")).0.parse().unwrap();
        // The first and the last count too.
        let marks = answered.iter().map(|number| number + 1).chain([sent + 1]);
        let before = [0].into_iter().chain(answered.iter().map(|number| number + 1));
        let longest = marks.zip(before).map(|(mark, before)| mark - before - 1).max();
        (sent as usize, PACE * longest.unwrap_or(sent))
    }
}

/// No ping from outside to this address is lost by what steers, and a dead gateway, on which no guest is, is followed by the
/// next one.
pub(super) async fn are_survived(t: &Scene, address: &str, gateway: &str) {
    let pings = Pings::start(&t.ovn, address, Duration::from_secs(16));
    for daemon in OvnDaemon::ALL {
        t.ovn.stop(daemon).unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        t.ovn.start(daemon).unwrap();
    }
    let all = [
        "--namespace=virga-system",
        "--selector=app.kubernetes.io/component=controller",
    ];
    t.cluster.kubectl(&[&["delete", "pods", "--now"], &all[..]].concat());
    all_pods_are_ready(t).await;
    let (sent, longest) = pings.end();
    println!("{sent} pings while OVN's daemons and the controller were away: {longest:?} without an answer");
    assert_eq!(longest, Duration::ZERO);

    let powered = Powered::of(t.lab, gateway);
    let pings = Pings::start(&t.ovn, address, FOLLOWED * 2);
    t.lab.kill_node(gateway).unwrap();
    let (_, longest) = pings.end();
    println!("the gateway {gateway} died: {longest:?} without an answer");
    assert!(longest < FOLLOWED, "{longest:?}");
    drop(powered);
    all_pods_are_ready(t).await;
}
