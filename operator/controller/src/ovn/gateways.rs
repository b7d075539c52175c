//! Which hosts can be gateways? As the south-bound database says, which is only read.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use virga_ovn::GatewayHosts;
use virga_ovsdb::{Client, client::State, southbound::Chassis};

/// Follows the database until `stop` is cancelled. What was known stays known while it is away.
pub(super) fn follow(options: Option<virga_ovsdb::Options>, stop: CancellationToken) -> watch::Receiver<GatewayHosts> {
    let Some(options) = options else {
        return watch::channel(GatewayHosts::NotConfigured).1;
    };
    let (sender, receiver) = watch::channel(GatewayHosts::Unknown);
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
        }
        client.shutdown().await;
    });
    receiver
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
