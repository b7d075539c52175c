//! Which hosts can be gateways, and which members of load balancers answer? As the south-bound database says, which is only
//! read.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use virga_core::load_balancer::{Check, Health};
use virga_crds::ForwardedProtocol;
use virga_ovn::GatewayHosts;
use virga_ovsdb::{
    Client,
    client::State,
    southbound::{Chassis, ServiceMonitor},
};

/// What came of asking members whether they answer.
pub(super) type Answers = BTreeMap<Check, Health>;

/// What the database says.
pub(super) struct Southbound {
    pub hosts: watch::Receiver<GatewayHosts>,
    pub answers: watch::Receiver<Answers>,
}

/// Follows the database until `stop` is cancelled. What was known stays known while it is away.
pub(super) fn follow(options: Option<virga_ovsdb::Options>, stop: CancellationToken) -> Southbound {
    let Some(options) = options else {
        return Southbound {
            hosts: watch::channel(GatewayHosts::NotConfigured).1,
            answers: watch::channel(Answers::new()).1,
        };
    };
    let (sender, receiver) = watch::channel(GatewayHosts::Unknown);
    let (said, answers) = watch::channel(Answers::new());
    tokio::spawn(async move {
        let client = Client::start(options);
        let (mut state, mut changes) = (client.state(), client.changes());
        state.mark_changed();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Ok(()) = state.changed() => {
                    let state = state.borrow_and_update().clone();
                    match state {
                        State::Synced { remote, .. } => {
                            tracing::info!(%remote, "connected to OVN's south-bound database");
                        }
                        State::Down { error } => {
                            tracing::warn!(%error, "OVN's south-bound database can't be reached");
                            continue;
                        }
                        State::Stopped => continue,
                    }
                }
                Some(_) = changes.next() => {}
                else => break,
            }
            sender.send_if_modified(|known| learn(known, hosts(&client)));
            let new = heard(&client);
            said.send_if_modified(|known| {
                let differs = *known != new;
                *known = new;
                differs
            });
        }
        client.shutdown().await;
    });
    Southbound {
        hosts: receiver,
        answers,
    }
}

fn heard(client: &Client) -> Answers {
    client.read(|replica| {
        let monitors = replica.read::<ServiceMonitor>().filter_map(|(_, monitor)| monitor.ok());
        monitors.filter_map(answer).collect()
    })
}

fn answer(monitor: ServiceMonitor) -> Option<(Check, Health)> {
    let health = match monitor.status.as_deref()? {
        "online" => Health::Online,
        // An error is that its host can't ask.
        _ => Health::Offline,
    };
    let check = Check {
        address: monitor.ip.parse().ok()?,
        number: u16::try_from(monitor.port).ok()?,
        protocol: match monitor.protocol.as_deref() {
            Some("udp") => ForwardedProtocol::Udp,
            _ => ForwardedProtocol::Tcp,
        },
        port: monitor.logical_port,
    };
    Some((check, health))
}

fn hosts(client: &Client) -> BTreeMap<String, BTreeSet<String>> {
    client.read(|replica| {
        let chassis = replica.read::<Chassis>().filter_map(|(_, chassis)| chassis.ok());
        let networks = |chassis: &Chassis| chassis.physical_networks().map(str::to_owned).collect();
        chassis
            .map(|chassis| (chassis.name.clone(), networks(&chassis)))
            .collect()
    })
}

/// Whether that is news. A database without any host is one that is being made anew: no gateway is taken away for that.
fn learn(known: &mut GatewayHosts, hosts: BTreeMap<String, BTreeSet<String>>) -> bool {
    if hosts.is_empty() && matches!(known, GatewayHosts::Known(known) if !known.is_empty()) {
        return false;
    }
    let new = GatewayHosts::Known(hosts);
    let differs = *known != new;
    *known = new;
    differs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_database_takes_no_gateway_away() {
        let hosts = |names: &[&str]| -> BTreeMap<String, BTreeSet<String>> {
            let host = |name: &&str| ((*name).to_owned(), BTreeSet::from(["physnet".to_owned()]));
            names.iter().map(host).collect()
        };
        let mut known = GatewayHosts::Unknown;
        assert!(learn(&mut known, hosts(&[])), "none is an answer too");
        assert!(learn(&mut known, hosts(&["a", "b"])));
        assert!(!learn(&mut known, hosts(&["a", "b"])));
        assert!(!learn(&mut known, hosts(&[])));
        assert_eq!(known, GatewayHosts::Known(hosts(&["a", "b"])));
        assert!(learn(&mut known, hosts(&["b"])));
    }
}
