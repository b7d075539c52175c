//! What the real apiserver makes of our definitions: which objects it takes, which it refuses and with which words.

// In tests a panic is the report.
#![allow(clippy::unwrap_used)]

mod ownership;
mod samples;
mod tables;

use virga_e2e::{Cluster, with_temp_namespace};

#[test]
fn every_definition_is_accepted_without_a_complaint() {
    let cluster = Cluster::api_only();
    let listed = cluster.kubectl(&[
        "get",
        "customresourcedefinitions",
        "--output=jsonpath={range .items[*]}{.metadata.name}{range .status.conditions[*]} {.type}={.status}{end}\n{end}",
    ]);
    let definitions: Vec<&str> = listed.lines().filter(|line| line.contains("virga.dev")).collect();
    assert_eq!(definitions.len(), 16, "{listed}");
    for definition in definitions {
        assert!(definition.contains("Established=True"), "{definition}");
        assert!(definition.contains("NamesAccepted=True"), "{definition}");
        // This one says what is wrong with a schema that is accepted all the same.
        assert!(!definition.contains("NonStructuralSchema=True"), "{definition}");
    }
}

#[test]
fn kubectl_explains_every_kind() {
    let cluster = Cluster::api_only();
    for (field, words) in [
        ("instance.spec.userData", "64 KiB"),
        ("flavor.spec.vcpus", "Virtual CPUs"),
        ("hostaggregate.spec.availabilityZone", "availability zone"),
        ("instance.spec.placement.hints.query", "JsonFilter"),
        ("hypervisor.spec.scheduling", "Cordoned"),
        ("network.spec.subnets.gateway", "isolated"),
        ("volume.spec.size", "may grow"),
        ("image.spec.source", "exactly one"),
        ("project.spec.members.role", "member"),
        ("addressgroup.spec.addresses", "both families"),
        ("securitygroup.spec.rules.direction", "from the guest"),
        ("servergroup.spec.policy", "SoftAntiAffinity"),
        ("port.spec.mac", "MAC address"),
        ("floatingip.spec.portForwardings", "instead of the whole address"),
        ("router.spec.externalGateway.snat", "IPv6"),
        ("loadbalancer.spec.affinityTimeout", "same member"),
        ("migration.spec.type", "Cold"),
    ] {
        let explained = cluster.kubectl(&["explain", field]);
        assert!(explained.contains(words), "{field}:\n{explained}");
    }
}

#[tokio::test]
async fn the_category_lists_the_objects_of_every_kind() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        t.create(virga_e2e::objects::network("front", "10.0.0.0/24")).await;
        t.create(virga_e2e::objects::guest()).await;
        let listed = t.cluster.kubectl(&["get", "virga", "--namespace", &t.namespace]);
        assert!(listed.contains("network.virga.dev/front"), "{listed}");
        assert!(listed.contains("image.virga.dev/guest"), "{listed}");
    })
    .await;
}
