//! Are there as many backups as asked for, and the newest ones?

use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;
use virga_crds::{Image, ImageState, Instance};
use virga_e2e::{BOUND, Case, Installation, eventually, is_ready, with_temp_namespace};

use crate::{GUEST, given_a_place_for_idle_instances, idle, nothing_new_is_left, remains};

/// The names of the backups, when all of them are whole.
async fn whole(t: &Case) -> Result<Vec<String>, String> {
    let of_it = ListParams::default().labels("virga.dev/instance=kept");
    let images = Api::<Image>::namespaced(t.client.clone(), &t.namespace)
        .list(&of_it)
        .await;
    let images = images.map_err(|error| error.to_string())?.items;
    let is_whole = |image: &Image| {
        let state = image.status.as_ref().and_then(|status| status.state);
        is_ready(image) && state == Some(ImageState::Active)
    };
    if images.iter().all(is_whole) {
        Ok(images.iter().map(ResourceExt::name_any).collect())
    } else {
        Err(format!(
            "{:?}",
            images.iter().map(|image| image.status.clone()).collect::<Vec<_>>()
        ))
    }
}

#[tokio::test]
async fn the_oldest_backup_goes_when_the_newest_is_whole() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("looks for what is left on its nodes") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_idle_instances(&t, lab, "10.62.0.0/24").await;
        let before = remains(lab);
        t.create(idle("kept", &flavor)).await;
        t.await_within::<Instance>(GUEST, "kept", "Ready", is_ready).await;
        let mut seen: Vec<String> = Vec::new();
        for _ in 0..3 {
            // A period begins with the next second: one that begins in this one may have its backup already.
            let at = Timestamp::from_second(Timestamp::now().as_second() + 1).unwrap();
            let backup = json!({"every": "24h", "startingAt": at, "rotation": 2, "quiesce": "Never"});
            t.patch::<Instance>("kept", json!({"spec": {"backup": backup}})).await;
            let names = eventually("one more is made, and two are kept", GUEST, async || {
                let names = whole(&t).await?;
                let new = names.iter().any(|name| !seen.contains(name));
                let expected = (seen.len() + 1).min(2);
                if new && names.len() == expected {
                    Ok(names)
                } else {
                    Err(format!("{names:?}"))
                }
            })
            .await;
            seen.extend(names);
            seen.sort_unstable();
            seen.dedup();
        }
        let mut kept = whole(&t).await.unwrap();
        kept.sort_unstable();
        assert_eq!(kept, seen[1..], "the newest ones");
        t.delete::<Instance>(GUEST, "kept").await;
        assert_eq!(whole(&t).await.unwrap().len(), 2, "they outlive their Instance");
        for name in kept {
            t.delete::<Image>(BOUND, &name).await;
        }
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
