//! Do guests lose packets while what steers their networks is away, and for how long when their gateway dies?

use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::json;
use virga_crds::{FloatingIP, Image, Instance, Network, Router, SecurityGroup};
use virga_e2e::objects::{guest, network, tiny};
use virga_e2e::{BOUND, Installation, is_ready, with_temp_namespace};
use virga_lab::{Ovn, OvnDaemon};

use super::{plugged_on, public, serves};
use crate::{
    GUEST,
    node_loss::{Powered, all_pods_are_ready},
    nothing_new_is_left, remains,
};

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

#[tokio::test]
async fn no_ping_is_lost_by_what_steers_and_a_dead_gateway_is_followed_by_the_next() {
    let Some((installation, lab, ovn, _turn)) = Installation::turn_on_ovn().await else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let before = remains(lab);
        let flavor = t.flavor("tiny", tiny()).await;
        t.create(guest()).await;
        t.create(public()).await;
        let open = json!({"rules": [{"direction": "Egress"}, {"direction": "Ingress"}]});
        t.create(SecurityGroup::new("default", serde_json::from_value(open).unwrap()))
            .await;
        t.create(network("front", "10.63.0.0/24")).await;
        let spec = json!({
            "networks": [{"network": "front"}],
            "externalGateway": {"network": {"name": "public"}},
        });
        t.create(Router::new("edge", serde_json::from_value(spec).unwrap()))
            .await;
        let router = t.await_condition::<Router>("edge", "Ready", is_ready).await;
        let gateways = router.status.unwrap().gateway_chassis;
        let [gateway, other, ..] = gateways.as_slice() else {
            panic!("{gateways:?}");
        };
        t.await_within::<Image>(GUEST, "guest", "Ready", is_ready).await;
        t.create(plugged_on(&flavor, "web", other, "front", "10.63.0.11", "#!/bin/sh\n"))
            .await;
        let spec = json!({"network": {"name": "public"}, "instance": "web"});
        t.create(FloatingIP::new("web", serde_json::from_value(spec).unwrap()))
            .await;
        t.await_within::<Instance>(GUEST, "web", "Ready", is_ready).await;
        let web = t.await_condition::<FloatingIP>("web", "Ready", is_ready).await;
        let address = web.status.unwrap().address.unwrap();
        serves(&ovn, &address, "hello from web").await;

        let pings = Pings::start(&ovn, &address, Duration::from_secs(16));
        for daemon in OvnDaemon::ALL {
            ovn.stop(daemon).unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
            ovn.start(daemon).unwrap();
        }
        let all = [
            "--namespace=virga-system",
            "--selector=app.kubernetes.io/component=controller",
        ];
        t.cluster.kubectl(&[&["delete", "pods", "--now"], &all[..]].concat());
        all_pods_are_ready(&t).await;
        let (sent, longest) = pings.end();
        println!("{sent} pings while OVN's daemons and the controller were away: {longest:?} without an answer");
        assert_eq!(longest, Duration::ZERO);

        let powered = Powered::of(lab, gateway);
        let pings = Pings::start(&ovn, &address, FOLLOWED * 2);
        lab.kill_node(gateway).unwrap();
        let (_, longest) = pings.end();
        println!("the gateway {gateway} died: {longest:?} without an answer");
        assert!(longest < FOLLOWED, "{longest:?}");
        drop(powered);
        all_pods_are_ready(&t).await;
        serves(&ovn, &address, "hello from web").await;

        t.delete::<FloatingIP>(BOUND, "web").await;
        t.delete::<Instance>(GUEST, "web").await;
        t.delete::<Router>(BOUND, "edge").await;
        for name in ["front", "public"] {
            t.delete::<Network>(BOUND, name).await;
        }
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
