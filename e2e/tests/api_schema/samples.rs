//! The samples are taken as they are, in files and as a kustomization, and a second apply changes nothing.

use std::collections::BTreeMap;

use virga_e2e::{Cluster, checkout};

fn path(path: &str) -> String {
    checkout().join(path).to_string_lossy().into_owned()
}

/// The version of every object of the kustomization.
fn versions(cluster: &Cluster) -> BTreeMap<String, String> {
    let listed = cluster.kubectl(&[
        "get",
        "--kustomize",
        &path("config"),
        "--output=jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}\n{end}",
    ]);
    let versions: BTreeMap<_, _> = listed
        .lines()
        .filter_map(|line| line.split_once(' '))
        // Namespaces are touched by others.
        .filter(|(name, _)| !name.starts_with("Namespace/"))
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect();
    assert!(versions.len() > 7, "{listed}");
    versions
}

#[test]
fn they_apply_in_both_ways_and_again_without_a_change() {
    let cluster = Cluster::api_only();
    let (files, kustomization) = (path("config/samples"), path("config"));
    cluster.kubectl(&["apply", "--validate=strict", "--filename", &files]);
    let before = versions(cluster);
    let same = |how: &[&str]| {
        // kubectl says "configured" when it sends a list anew in which the apiserver then fills the same defaults.
        cluster.kubectl(how);
        assert_eq!(versions(cluster), before);
    };
    same(&["apply", "--filename", &files]);
    same(&["apply", "--kustomize", &kustomization]);
    let difference = cluster.kubectl(&["diff", "--filename", &files]);
    assert_eq!(difference, "");

    // By server-side apply too: the first takes the fields over, the second has nothing to do.
    let server_side = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--kustomize",
        &kustomization,
    ];
    cluster.kubectl(&server_side);
    let taken_over = versions(cluster);
    cluster.kubectl(&server_side);
    assert_eq!(versions(cluster), taken_over);
    let difference = cluster.kubectl(&[
        "diff",
        "--server-side",
        "--force-conflicts",
        "--kustomize",
        &kustomization,
    ]);
    assert_eq!(difference, "");
}

#[test]
fn what_needs_ovn_applies_after_them_and_again_without_a_change() {
    let cluster = Cluster::api_only();
    let (samples, ovn) = (path("config"), path("config/ovn"));
    cluster.kubectl(&["apply", "--kustomize", &samples]);
    cluster.kubectl(&["apply", "--validate=strict", "--kustomize", &ovn]);
    let difference = cluster.kubectl(&["diff", "--kustomize", &ovn]);
    assert_eq!(difference, "");
}

#[test]
fn every_kind_that_stays_and_is_made_by_people_has_a_sample() {
    let mut missing: Vec<String> = virga_crds::definitions::all()
        .into_iter()
        .map(|definition| definition.spec.names.kind)
        .collect();
    let folders = ["config/samples", "config/ovn"].map(|folder| std::fs::read_dir(checkout().join(folder)).unwrap());
    for file in folders.into_iter().flatten() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        missing.retain(|kind| !text.contains(&format!("\nkind: {kind}\n")));
    }
    // A Hypervisor is made by Virga itself, and a Migration is a job: applied again, it would move a guest.
    assert_eq!(missing, ["Hypervisor", "Migration"]);
}
