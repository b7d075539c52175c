//! Does a guest on an OVN network keep its address and its MAC address when it moves, and do others find it there?

use kube::ResourceExt;
use virga_crds::{Instance, Migration, MigrationPhase, MigrationSpec, MigrationType, Port};
use virga_e2e::objects::network;
use virga_e2e::{eventually, is_ready, on_node};

use super::scene::{SERVES, on_ovn};
use crate::{GUEST, await_up, host, node_of};

/// Tells whenever the other guest comes or goes, for ten minutes.
const WATCHER: &str = "#!/bin/sh
(
    was= n=0
    while [ $n -lt 600 ]; do
        now=away
        ping -c 1 -W 1 10.66.0.11 >/dev/null 2>&1 && now=there
        [ $now = \"$was\" ] || echo \"SEEN mover-is-$now\"
        was=$now n=$((n + 1))
        sleep 1
    done
) &
";

/// How long a guest takes to shut down, to move and to come up again.
const MOVE: std::time::Duration = std::time::Duration::from_mins(4);

#[tokio::test]
async fn a_guest_that_moves_is_found_under_its_address_on_its_new_host() {
    on_ovn([network("front", "10.66.0.0/24")], async |t| {
        // The host that it asks for by name is for its first placement.
        t.plug("mover", "node-1", "front", "10.66.0.11", SERVES).await;
        t.plug("watcher", "node-3", "front", "10.66.0.12", WATCHER).await;
        let mover = t.runs("mover").await;
        let watcher = t.runs("watcher").await;
        await_up(&host(t.lab, &mover), &mover, 1).await;
        t.said(&watcher, "SEEN mover-is-there").await;
        let port = t.await_condition::<Port>("mover-front", "up", is_ready).await;

        let spec = MigrationSpec {
            instance: "mover".into(),
            kind: MigrationType::Cold,
            target: Some("node-2".into()),
        };
        t.create(Migration::new("across", spec)).await;
        let across = t
            .await_within::<Migration>(MOVE, "across", "over", |found| {
                let phase = found.status.as_ref().and_then(|status| status.phase);
                phase.is_some_and(MigrationPhase::is_over)
            })
            .await;
        let status = across.status.unwrap();
        assert_eq!(
            status.phase,
            Some(MigrationPhase::Completed),
            "{:#?}",
            status.conditions
        );
        let there = t
            .await_within::<Instance>(GUEST, "mover", "Ready on its new host", |found| {
                is_ready(found) && node_of(found) == "node-2"
            })
            .await;
        let (old, new) = (mover.status.unwrap().addresses, there.status.clone().unwrap().addresses);
        assert_eq!(old, new);
        await_up(&host(t.lab, &there), &there, 1).await;
        t.said(&there, "GUEST-READY host=mover ip=10.66.0.11").await;
        let now = t.await_within::<Port>(GUEST, "mover-front", "up", is_ready).await;
        assert_eq!((now.uid(), &now.spec.mac), (port.uid(), &port.spec.mac));
        assert_eq!(now.spec.node_name.as_deref(), Some("node-2"));

        let uid = watcher.uid().unwrap();
        eventually("the watcher finds it again", GUEST, async || {
            let console = on_node::console(&host(t.lab, &watcher), &uid);
            let seen: Vec<_> = console
                .lines()
                .filter_map(|line| Some(line.trim_end().split_once("SEEN mover-is-")?.1))
                .collect();
            (seen.ends_with(&["there", "away", "there"]))
                .then_some(())
                .ok_or(console)
        })
        .await;
    })
    .await;
}
