//! The samples with what takes OVN, from `kubectl apply` to a page that is asked for from outside.

use virga_crds::FloatingIP;
use virga_e2e::{Installation, checkout};

use super::scene::serves;
use crate::{
    nothing_new_is_left, remains,
    samples::{NAMESPACE, given},
};

#[tokio::test]
async fn a_page_of_the_samples_is_seen_from_outside() {
    let Some((installation, lab, ovn, _turn)) = Installation::turn_on_ovn().await else {
        return;
    };
    let before = remains(lab);
    let cluster = &installation.cluster;
    let folders = ["config", "config/ovn"];
    given(cluster, &folders).await;
    let floating: kube::Api<FloatingIP> = kube::Api::namespaced(cluster.client().await, NAMESPACE);
    let address = floating.get("web-1").await.unwrap().status.unwrap().address.unwrap();
    serves(&ovn, &address, "hello from web-1").await;
    for folder in folders.iter().rev() {
        let folder = checkout().join(folder);
        cluster.kubectl(&["delete", "--kustomize", &folder.to_string_lossy(), "--timeout=120s"]);
    }
    nothing_new_is_left(lab, &before).await;
}
