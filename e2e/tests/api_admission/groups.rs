//! Server groups: do their policies hold, also when many members come at once?

use std::collections::{BTreeMap, BTreeSet};

use virga_crds::{Bytes, Instance, ServerGroupPolicy};
use virga_e2e::objects::{instance, server_group};
use virga_e2e::{BOUND, Case, condition, eventually, with_temp_namespace};

use crate::process::Controller;
use crate::{bound_once, instances, per_node, placed, record_bindings, stage, storm};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_group_run_apart_as_a_must_and_together_as_a_wish() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        t.create(server_group("apart", ServerGroupPolicy::AntiAffinity)).await;
        t.create(server_group("together", ServerGroupPolicy::Affinity)).await;
        let (hosts, flavor) = stage(&t, &controller, 3, Bytes::gib(8)).await;
        for n in 0..3 {
            for group in ["apart", "together"] {
                let mut new = instance(&format!("{group}-{n}"), &flavor);
                new.spec.server_group = Some(group.into());
                t.create(new).await;
            }
        }
        let nodes_of = async |group: &str| -> BTreeSet<String> {
            let found = instances(&t).await;
            let members = found
                .iter()
                .filter(|found| found.spec.server_group.as_deref() == Some(group));
            members.filter_map(|found| found.spec.node_name.clone()).collect()
        };
        eventually("all are placed", BOUND, async || {
            let found = instances(&t).await;
            (placed(&found) == 6)
                .then_some(())
                .ok_or_else(|| format!("{:?}", per_node(&found)))
        })
        .await;
        assert_eq!(nodes_of("apart").await.len(), 3);
        assert_eq!(nodes_of("together").await.len(), 1);
        // A fourth has nowhere to go, and is told.
        let mut fourth = instance("apart-3", &flavor);
        fourth.spec.server_group = Some("apart".into());
        t.create(fourth).await;
        let told = t
            .await_condition::<Instance>("apart-3", "says why it has no host", |found| {
                condition(found, "Scheduled").is_some_and(|scheduled| scheduled.reason == "NoValidHost")
            })
            .await;
        let message = condition(&told, "Scheduled").unwrap().message;
        assert!(message.contains("AntiAffinity"), "{message}");
        hosts.down(&t).await;
    })
    .await;
}

fn member(name: &str, group: &str, flavor: &str) -> Instance {
    let mut new = instance(name, flavor);
    new.spec.server_group = Some(group.into());
    new
}

/// How many members of each group are on each node.
async fn spread(t: &Case) -> BTreeMap<String, BTreeMap<String, usize>> {
    let mut groups: BTreeMap<String, Vec<Instance>> = BTreeMap::new();
    for found in instances(t).await {
        if let Some(group) = found.spec.server_group.clone() {
            groups.entry(group).or_default().push(found);
        }
    }
    groups
        .into_iter()
        .map(|(group, members)| (group, per_node(&members)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_policies_of_groups_hold_when_two_hundred_instances_come_at_once() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        // Room for all: what is refused is refused for its group.
        let (hosts, flavor) = stage(&t, &controller, 5, Bytes::gib(101)).await;
        let mut new = Vec::new();
        for n in 0..10 {
            let apart = format!("apart-{n}");
            t.create(server_group(&apart, ServerGroupPolicy::AntiAffinity)).await;
            new.extend((0..8).map(|m| member(&format!("{apart}-{m}"), &apart, &flavor)));
        }
        for n in 0..5 {
            let together = format!("together-{n}");
            t.create(server_group(&together, ServerGroupPolicy::Affinity)).await;
            new.extend((0..12).map(|m| member(&format!("{together}-{m}"), &together, &flavor)));
        }
        new.extend((0..60).map(|n| instance(&format!("alone-{n}"), &flavor)));
        assert_eq!(new.len(), 200);
        // Members of one group are not to come one after the other.
        fastrand::Rng::with_seed(4).shuffle(&mut new);
        let seen = record_bindings(&t);
        let made = storm(&t, new).await;
        println!("placed in admission: {} of 200", placed(&made));

        let wanted = 10 * 5 + 5 * 12 + 60;
        eventually("all are placed whose group allows it", BOUND, async || {
            let count = placed(&instances(&t).await);
            (count == wanted)
                .then_some(())
                .ok_or_else(|| format!("{count} of {wanted}"))
        })
        .await;
        for (group, nodes) in spread(&t).await {
            if group.starts_with("apart") {
                assert!(
                    nodes.len() == 5 && nodes.values().all(|count| *count == 1),
                    "{group}: {nodes:?}"
                );
            } else {
                assert_eq!(nodes.len(), 1, "{group}: {nodes:?}");
            }
        }
        bound_once(&seen).await;
        hosts.down(&t).await;
    })
    .await;
}
