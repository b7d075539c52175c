//! Does a shelved guest leave its host with nothing of it there, and come back elsewhere with its disk, its address and its
//! name?

use kube::ResourceExt;
use serde_json::json;
use virga_crds::{Image, Instance, InstanceState, Port, PowerState, Shelve, UserData};
use virga_e2e::objects::{instance, plugged};
use virga_e2e::on_node::{self, Remains};
use virga_e2e::{BOUND, Installation, eventually, is_ready, with_temp_namespace};

use crate::{
    GUEST, await_up, cordon::Cordon, domain_of, given_a_place_for_guests, host, marking, marks, node_of,
    nothing_new_is_left, remains,
};

/// How long a guest takes to shut down and its disk to be copied.
const SHELVE: std::time::Duration = std::time::Duration::from_mins(4);

fn is_away(instance: &Instance) -> bool {
    let status = instance.status.clone().unwrap_or_default();
    instance.spec.node_name.is_none()
        && status.state == Some(InstanceState::Shelved)
        && status.shelve.is_some_and(|shelve| shelve.offloaded_at.is_some())
}

#[tokio::test]
async fn a_shelved_guest_frees_its_host_and_comes_back_on_another_with_its_disk_and_its_address() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("looks for what is left on a node") else {
        return;
    };
    Box::pin(with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.69.0.0/24").await;
        let before = remains(lab);
        let mut web = plugged(instance("web", &flavor), "net");
        web.spec.user_data = Some(UserData {
            inline: Some(marking("shelved")),
            secret_ref: None,
        });
        t.create(web).await;
        let web = t.await_within::<Instance>(GUEST, "web", "Ready", is_ready).await;
        let (source, uid) = (host(lab, &web), web.uid().unwrap());
        await_up(&source, &web, 1).await;
        assert_eq!(marks(&on_node::console(&source, &uid)), ["vda: none"]);
        let addresses = web.status.as_ref().unwrap().addresses.clone();
        let kubectl = |args: &[&str]| t.cluster.kubectl(args);
        let namespace = t.namespace.as_str();
        let shelve = json!({"spec": {"powerState": PowerState::Shelved, "shelve": {"offloadAfter": "0s"}}}).to_string();
        let patch = [
            "patch",
            "instance",
            "web",
            "--namespace",
            namespace,
            "--type=merge",
            "--patch",
        ];
        kubectl(&[&patch[..], &[&shelve]].concat());
        let away = t
            .await_within::<Instance>(SHELVE, "web", "shelved, away and Ready", |found| {
                // That it is on no host is a change of its spec, which is observed after it.
                is_away(found) && is_ready(found)
            })
            .await;
        assert_eq!(away.uid().unwrap(), uid);
        assert_eq!(away.status.as_ref().unwrap().addresses, addresses);
        assert_eq!(
            away.spec.shelve,
            Some(Shelve {
                offload_after: "0s".into()
            })
        );
        let domains = on_node::run(&source, &["virsh", "list", "--all", "--name"]);
        assert!(!domains.contains(&domain_of(&web)), "{domains}");
        let name = away
            .status
            .as_ref()
            .unwrap()
            .shelve
            .as_ref()
            .unwrap()
            .image
            .clone()
            .unwrap();
        let at = lab
            .nodes()
            .iter()
            .position(|node| node.name() == node_of(&web))
            .unwrap();
        eventually("its host is free", BOUND, async || {
            let left = Remains::of(&source).without(&before[at]);
            left.is_empty().then_some(()).ok_or_else(|| format!("{left:#?}"))
        })
        .await;
        let image = t.await_within::<Image>(BOUND, &name, "Ready", is_ready).await;
        assert_eq!(image.status.as_ref().unwrap().keeper, Some(node_of(&web)));
        assert_eq!(image.owner_references()[0].uid, uid);

        let mut cordon = Cordon {
            cluster: &t.cluster,
            hosts: Vec::new(),
        };
        cordon.add(&node_of(&web));
        kubectl(&[&patch[..], &[r#"{"spec":{"powerState":"Running"}}"#]].concat());
        let back = t
            .await_within::<Instance>(SHELVE, "web", "back", |web| {
                web.spec.node_name.is_some()
                    && is_ready(web)
                    && web
                        .status
                        .as_ref()
                        .is_some_and(|status| status.state == Some(InstanceState::Active))
            })
            .await;
        drop(cordon);
        assert_ne!(node_of(&back), node_of(&web));
        assert_eq!(
            (back.uid(), &back.status.as_ref().unwrap().addresses),
            (Some(uid.clone()), &addresses)
        );
        let target = host(lab, &back);
        await_up(&target, &back, 1).await;
        assert_eq!(marks(&on_node::console(&target, &uid)), ["vda: shelved-vda"]);
        let port = kubectl(&["get", "port", "web-net", "--namespace", namespace, "--output", "json"]);
        let port: Port = serde_json::from_str(&port).unwrap();
        assert_eq!(port.spec.node_name, Some(node_of(&back)));
        eventually("its Image is gone", BOUND, async || {
            let images = kubectl(&["get", "images", "--namespace", namespace, "--output", "name"]);
            (!images.contains(&name)).then_some(()).ok_or(images)
        })
        .await;
        t.delete::<Instance>(GUEST, "web").await;
        nothing_new_is_left(lab, &before).await;
    }))
    .await;
}
