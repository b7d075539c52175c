//! Does a guest come up on another host with its disk and its address, and is nothing of it left where it was?

use virga_crds::{Instance, Migration, MigrationPhase, MigrationSpec, MigrationType, UserData};
use virga_e2e::objects::{instance, plugged};
use virga_e2e::on_node::{self, Remains};
use virga_e2e::{BOUND, Installation, eventually, is_ready, with_temp_namespace};

use kube::ResourceExt;

use crate::{GUEST, await_up, given_a_place_for_guests, host, node_of, nothing_new_is_left, remains};

/// Writes a mark to the end of the root disk, or says that it is there already.
const SCRIPT: &str = "#!/bin/sh
last=$(($(cat /sys/block/vda/size) - 1))
if dd if=/dev/vda bs=512 skip=$last count=1 2>/dev/null | grep -q been-here; then
    echo 'mark: found'
else
    echo been-here | dd of=/dev/vda bs=512 seek=$last conv=notrunc 2>/dev/null
    sync
    echo 'mark: written'
fi
";

/// How long a guest takes to shut down, to move and to come up again.
const MOVE: std::time::Duration = std::time::Duration::from_mins(4);

fn migration(name: &str, instance: &str) -> Migration {
    let spec = MigrationSpec {
        instance: instance.into(),
        kind: MigrationType::Cold,
        target: None,
    };
    Migration::new(name, spec)
}

#[tokio::test]
async fn a_guest_takes_its_disk_and_its_address_to_another_host() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("looks for what is left on a node") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.47.0.0/24").await;
        let before = remains(lab);
        let mut mover = plugged(instance("mover", &flavor), "net");
        mover.spec.user_data = Some(UserData {
            inline: Some(SCRIPT.into()),
            secret_ref: None,
        });
        t.create(mover).await;
        let mover = t.await_within::<Instance>(GUEST, "mover", "Ready", is_ready).await;
        let (source, uid) = (host(lab, &mover), mover.uid().unwrap());
        await_up(&source, &mover, 1).await;
        let console = on_node::console(&source, &uid);
        assert!(console.contains("mark: written"), "{console}");
        let addresses = mover.status.as_ref().unwrap().addresses.clone();

        t.create(migration("away", "mover")).await;
        let refused = t.refusal(migration("twice", "mover")).await;
        assert!(refused.contains("Migration away of mover is under way"), "{refused}");
        let away = t
            .await_within::<Migration>(MOVE, "away", "over", |found| {
                let phase = found.status.as_ref().and_then(|status| status.phase);
                phase.is_some_and(MigrationPhase::is_over)
            })
            .await;
        let status = away.status.unwrap();
        assert_eq!(
            status.phase,
            Some(MigrationPhase::Completed),
            "{:#?}",
            status.conditions
        );
        let there = t.await_within::<Instance>(GUEST, "mover", "Ready", is_ready).await;
        assert_ne!(node_of(&there), node_of(&mover));
        assert_eq!(there.status.as_ref().unwrap().addresses, addresses);
        let target = host(lab, &there);
        await_up(&target, &there, 1).await;
        let console = on_node::console(&target, &uid);
        assert!(console.contains("mark: found"), "{console}");

        let at = lab
            .nodes()
            .iter()
            .position(|node| node.name() == node_of(&mover))
            .unwrap();
        eventually("nothing is left at the source", BOUND, async || {
            let left = Remains::of(&source).without(&before[at]);
            left.is_empty().then_some(()).ok_or_else(|| format!("{left:#?}"))
        })
        .await;
        let row = t
            .cluster
            .kubectl(&["get", "migration", "away", "--namespace", &t.namespace]);
        assert!(row.contains("Completed") && row.contains("100"), "{row}");

        t.delete::<Instance>(GUEST, "mover").await;
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
