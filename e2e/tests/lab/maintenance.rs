//! Is a host in maintenance emptied, and does what was on it run elsewhere?

use serde_json::json;
use virga_crds::{Hypervisor, Instance};
use virga_e2e::objects::{instance, plugged};
use virga_e2e::{Cluster, Installation, eventually, is_ready, with_temp_namespace};

use crate::{GUEST, given_a_place_for_guests, node_of, nothing_new_is_left, remains};

/// How long a guest takes to shut down, to move and to come up again.
const MOVE: std::time::Duration = std::time::Duration::from_mins(4);

/// A host in maintenance until this goes, whatever becomes of the test.
struct Maintenance<'a> {
    cluster: &'a Cluster,
    host: String,
}

impl<'a> Maintenance<'a> {
    fn of(cluster: &'a Cluster, host: &str) -> Self {
        let began = Self {
            cluster,
            host: host.into(),
        };
        assert!(began.schedule("Maintenance"));
        began
    }

    fn schedule(&self, scheduling: &str) -> bool {
        let change = json!({"spec": {"scheduling": scheduling}}).to_string();
        let args = ["patch", "hypervisor", &self.host, "--type=merge", "--patch", &change];
        self.cluster.kubectl_says(&args).ok
    }
}

impl Drop for Maintenance<'_> {
    fn drop(&mut self) {
        if !self.schedule("Enabled") {
            eprintln!("{} stays in maintenance", self.host);
        }
    }
}

#[tokio::test]
async fn a_host_in_maintenance_is_emptied() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("looks for what is left on a node") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.48.0.0/24").await;
        let before = remains(lab);
        t.create(plugged(instance("stays-up", &flavor), "net")).await;
        let here = t.await_within::<Instance>(GUEST, "stays-up", "Ready", is_ready).await;
        let host = node_of(&here);
        let maintenance = Maintenance::of(&installation.cluster, &host);
        let hypervisors: kube::Api<Hypervisor> = kube::Api::all(t.client.clone());
        eventually("the host is drained", MOVE, async || {
            let found = hypervisors.get(&host).await.map_err(|error| error.to_string())?;
            let conditions = found.status.map(|status| status.conditions).unwrap_or_default();
            let drained = conditions.into_iter().find(|condition| condition.type_ == "Drained");
            match drained {
                Some(drained) if drained.status == "True" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let there = t.await_within::<Instance>(GUEST, "stays-up", "Ready", is_ready).await;
        assert_ne!(node_of(&there), host);
        assert_eq!(there.status.unwrap().addresses, here.status.unwrap().addresses);
        drop(maintenance);
        t.delete::<Instance>(GUEST, "stays-up").await;
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
