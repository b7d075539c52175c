//! Does a guest on an OVN network keep its address and its MAC address when it moves, and do others find it there?

use kube::ResourceExt;
use virga_crds::{Image, Instance, Migration, MigrationPhase, MigrationSpec, MigrationType, Network, Port};
use virga_e2e::objects::{guest, network, tiny};
use virga_e2e::{BOUND, Installation, eventually, is_ready, on_node, with_temp_namespace};

use super::{plugged_on, said};
use crate::{GUEST, await_up, host, node_of, nothing_new_is_left, remains};

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
    let Some((installation, lab, _ovn, _turn)) = Installation::turn_on_ovn().await else {
        return;
    };
    Box::pin(with_temp_namespace(&installation.cluster, async |t| {
        let before = remains(lab);
        let flavor = t.flavor("tiny", tiny()).await;
        t.create(guest()).await;
        t.create(network("front", "10.66.0.0/24")).await;
        t.await_within::<Image>(GUEST, "guest", "Ready", is_ready).await;
        t.await_condition::<Network>("front", "Ready", is_ready).await;
        for (name, node, address, script) in [
            ("mover", "", "10.66.0.11", "#!/bin/sh\n"),
            ("watcher", "node-3", "10.66.0.12", WATCHER),
        ] {
            let mut made = plugged_on(&flavor, name, node, "front", address, script);
            if name == "mover" {
                // Who asks for a host by name stays there.
                made.spec.placement = None;
            }
            t.create(made).await;
        }
        let mover = t.await_within::<Instance>(GUEST, "mover", "Ready", is_ready).await;
        let watcher = t.await_within::<Instance>(GUEST, "watcher", "Ready", is_ready).await;
        await_up(&host(lab, &mover), &mover, 1).await;
        said(lab, &watcher, "SEEN mover-is-there").await;
        let port = t.await_condition::<Port>("mover-front", "up", is_ready).await;

        let target = if node_of(&mover) == "node-2" {
            "node-1"
        } else {
            "node-2"
        };
        let spec = MigrationSpec {
            instance: "mover".into(),
            kind: MigrationType::Cold,
            target: Some(target.into()),
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
                is_ready(found) && node_of(found) == target
            })
            .await;
        let (old, new) = (mover.status.unwrap().addresses, there.status.clone().unwrap().addresses);
        assert_eq!(old, new);
        await_up(&host(lab, &there), &there, 1).await;
        said(lab, &there, "GUEST-READY host=mover ip=10.66.0.11").await;
        let now = t.await_within::<Port>(GUEST, "mover-front", "up", is_ready).await;
        assert_eq!((now.uid(), &now.spec.mac), (port.uid(), &port.spec.mac));
        assert_eq!(now.spec.node_name.as_deref(), Some(target));

        let uid = watcher.uid().unwrap();
        eventually("the watcher finds it again", GUEST, async || {
            let console = on_node::console(&host(lab, &watcher), &uid);
            let seen: Vec<_> = console
                .lines()
                .filter_map(|line| Some(line.trim_end().split_once("SEEN mover-is-")?.1))
                .collect();
            (seen.ends_with(&["there", "away", "there"]))
                .then_some(())
                .ok_or(console)
        })
        .await;

        for name in ["mover", "watcher"] {
            t.delete::<Instance>(GUEST, name).await;
        }
        t.delete::<Network>(BOUND, "front").await;
        nothing_new_is_left(lab, &before).await;
    }))
    .await;
}
