//! Does a guest that its host has no room for find its new size on another host, with its disk and its address?

use kube::ResourceExt;
use serde_json::json;
use virga_crds::{FlavorSpec, Instance, Migration, MigrationPhase, Placement, PowerState, UserData, labels};
use virga_e2e::objects::{instance, plugged, tiny};
use virga_e2e::{BOUND, Cluster, Installation, eventually, is_ready, on_node, with_temp_namespace};

use crate::{
    GUEST, await_up, given_a_place_for_guests, host, marking, marks, node_of, nothing_new_is_left, remains,
    resize::{SIZE, sizes},
};

/// How long a guest takes to shut down, to move, to come up again and to be resized there.
const MOVE: std::time::Duration = std::time::Duration::from_mins(5);

/// A host that promises each of its CPUs once, until this goes, whatever becomes of the test.
struct Frugal<'a> {
    cluster: &'a Cluster,
    host: String,
}

impl<'a> Frugal<'a> {
    fn of(cluster: &'a Cluster, host: &str) -> Self {
        let began = Self {
            cluster,
            host: host.into(),
        };
        assert!(began.promises(Some("1")));
        began
    }

    fn promises(&self, ratio: Option<&str>) -> bool {
        let ratios = ratio.map(|ratio| json!({ "vcpus": ratio }));
        let change = json!({"spec": {"allocationRatios": ratios}}).to_string();
        let args = ["patch", "hypervisor", &self.host, "--type=merge", "--patch", &change];
        self.cluster.kubectl_says(&args).ok
    }
}

impl Drop for Frugal<'_> {
    fn drop(&mut self) {
        if !self.promises(None) {
            eprintln!("{} keeps its allocation ratios", self.host);
        }
    }
}

#[tokio::test]
async fn a_guest_that_outgrows_its_host_is_resized_on_another() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("reads consoles on nodes") else {
        return;
    };
    Box::pin(with_temp_namespace(&installation.cluster, async |t| {
        let small = given_a_place_for_guests(&t, "10.65.0.0/24").await;
        let two = t.flavor("two", FlavorSpec { vcpus: 2, ..tiny() }).await;
        let before = remains(lab);
        let mut outgrows = plugged(instance("outgrows", &small), "net");
        outgrows.spec.user_data = Some(UserData {
            inline: Some(marking("one") + SIZE),
            secret_ref: None,
        });
        t.create(outgrows).await;
        let here = t.await_within::<Instance>(GUEST, "outgrows", "Ready", is_ready).await;
        let (source, uid) = (host(lab, &here), here.uid().unwrap());
        await_up(&source, &here, 1).await;
        assert_eq!(marks(&on_node::console(&source, &uid)), ["vda: none"]);
        let addresses = here.status.as_ref().unwrap().addresses.clone();

        // Two CPUs: one for it, one for another that only lies there.
        let mut filler = instance("filler", &small);
        filler.spec.power_state = PowerState::Stopped;
        filler.spec.placement = Some(Placement {
            host: Some(node_of(&here)),
            ..Placement::default()
        });
        t.create(filler).await;
        t.await_within::<Instance>(GUEST, "filler", "Ready", is_ready).await;
        let frugal = Frugal::of(&installation.cluster, &node_of(&here));

        t.patch::<Instance>("outgrows", json!({"spec": {"flavor": two}})).await;
        let there = t
            .await_within::<Instance>(MOVE, "outgrows", "resized elsewhere", |found| {
                let status = found.status.clone().unwrap_or_default();
                is_ready(found)
                    && status.flavor.is_some_and(|flavor| flavor.name == two)
                    && status.resize.is_some_and(|resize| resize.confirmed_at.is_some())
            })
            .await;
        drop(frugal);
        assert_ne!(node_of(&there), node_of(&here));
        assert_eq!(
            (there.uid(), &there.status.as_ref().unwrap().addresses),
            (Some(uid.clone()), &addresses)
        );
        let target = host(lab, &there);
        eventually("it boots with two CPUs", GUEST, async || {
            let console = on_node::console(&target, &uid);
            let last = sizes(&console).last().copied();
            last.is_some_and(|size| size[0] == 2).then_some(()).ok_or(console)
        })
        .await;
        let console = on_node::console(&target, &uid);
        assert_eq!(marks(&console).last(), Some(&"vda: one-vda"), "{console}");
        let made = t
            .api::<Migration>()
            .list(&kube::api::ListParams::default())
            .await
            .unwrap();
        let [made] = &made.items[..] else {
            panic!("{:#?}", made.items)
        };
        assert_eq!(made.labels().get(labels::RESIZES), Some(&uid));
        let phase = made.status.as_ref().and_then(|status| status.phase);
        assert_eq!(phase, Some(MigrationPhase::Completed));

        for name in ["outgrows", "filler"] {
            t.delete::<Instance>(BOUND, name).await;
        }
        nothing_new_is_left(lab, &before).await;
    }))
    .await;
}
