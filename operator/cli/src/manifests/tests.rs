use super::*;

const WORLD: &str = "
apiVersion: virga.dev/v1alpha1
kind: Hypervisor
metadata: {name: node-1, creationTimestamp: null}
status:
  capacity: {vcpus: 8, memory: 16Gi, disk: 100Gi}
  somethingNew: {a: 1}
---
apiVersion: v1
kind: List
items:
- {apiVersion: virga.dev/v1alpha1, kind: Flavor, metadata: {name: m1.small}, spec: {vcpus: 1, memory: 1Gi}}
- {apiVersion: virga.dev/v1alpha1, kind: Instance, metadata: {name: web-1}, spec: {flavor: m1.small, image: {name: debian}}}
- {apiVersion: virga.dev/v1alpha1, kind: Network, metadata: {name: front}, spec: {anything: 1}}
- {apiVersion: v1, kind: Secret, metadata: {name: web}, data: {}}
---
apiVersion: virga.dev/v1alpha1
kind: Project
metadata: {name: retail}
spec: {namespace: shop}
";

#[test]
fn objects_are_read_with_what_they_lack_filled_in() {
    let Manifests { objects, warnings } = of_text("world.yaml", WORLD).unwrap();
    let instance = &objects.instances[0];
    assert_eq!(instance.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(instance.metadata.uid.as_deref(), Some("Instance/default/web-1"));
    let conditions = &objects.hypervisors[0].status.as_ref().unwrap().conditions;
    assert_eq!(
        (conditions[0].type_.as_str(), conditions[0].status.as_str()),
        ("Ready", "True")
    );
    assert_eq!(objects.flavors.len(), 1);
    let namespace = &objects.namespaces[0].metadata;
    assert_eq!(namespace.name.as_deref(), Some("shop"));
    assert_eq!(
        namespace.labels.as_ref().unwrap()[virga_crds::labels::PROJECT],
        "retail"
    );
    assert_eq!(
        warnings,
        ["skipped, as they have no say in where Instances go: 1 Network of virga.dev/v1alpha1, 1 Secret of v1"]
    );
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_place() {
    let wrong = "
apiVersion: virga.dev/v1alpha1
kind: Flavor
metadata: {name: M1}
spec: {vcpus: 0, memory: much, dsik: 1, extraSpecs: {'resources:VCPU': 'x'}}
---
kind: Flavor
---
- 1
---
apiVersion: virga.dev/v2
kind: Flavor
metadata: {name: a}
---
apiVersion: v1
kind: List
items:
- {apiVersion: virga.dev/v1alpha1, kind: Flavor, metadata: {name: a}, spec: {vcpus: 1, memory: 1Gi, extraSpecs: {'resources:VCPU': 'x'}}}
- {apiVersion: virga.dev/v1alpha1, kind: ServerGroup, metadata: {name: g}, spec: {policy: Apart}}
- {apiVersion: virga.dev/v1alpha1, kind: ServerGroup, metadata: {name: h}}
- {apiVersion: virga.dev/v1alpha1, kind: HostAggregate, metadata: {name: h}, spec: {hypervisors: [], metadata: {cpu_weight_multiplier: x}}}
- {apiVersion: virga.dev/v1alpha1, kind: Instance, metadata: {name: i, labels: {a: 1}}, spec: {flavor: a, placement: {hints: {query: '[\"x\"'}}}}
- {apiVersion: virga.dev/v1alpha1, kind: Image, metadata: {name: d}, spec: {source: {path: a}}, stauts: {}}
- {apiVersion: virga.dev/v1alpha1, kind: Volume, metadata: {name: d}, spec: {size: 1Gi}}
- {apiVersion: virga.dev/v1alpha1, kind: Volume, metadata: {name: d}, spec: {size: 2Gi}}
---
a: b: c
";
    insta::assert_snapshot!(of_text("wrong.yaml", wrong).unwrap_err().to_string());
}

#[test]
fn what_is_right_but_may_not_be_meant_is_told() {
    let text = "
{apiVersion: virga.dev/v1alpha1, kind: Hypervisor, metadata: {name: node-1}}
---
apiVersion: virga.dev/v1alpha1
kind: Instance
metadata: {name: web-1, namespace: shop}
spec: {flavor: m1.small, image: {name: debian}, nodeName: node-9}
";
    assert_eq!(
        of_text("world.yaml", text).unwrap().warnings,
        [
            "nothing fits on Hypervisors without status.capacity: node-1",
            "spec.nodeName is no Hypervisor that was read, so it counts nowhere: shop/web-1",
        ]
    );
}

#[test]
fn what_is_shown_of_a_manifest_commands_no_terminal() {
    let text = "{apiVersion: virga.dev/v1alpha1, kind: Flavor, metadata: {name: a}, spec: {vcpus: 1, memory: 1Gi, \"\\e[31m\": 1}}";
    let shown = of_text("a\u{1b}.yaml", text).unwrap_err().to_string();
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    let kind = "{apiVersion: v1, kind: \"\\e]0;x\\a\"}";
    assert_eq!(of_text("a.yaml", kind).unwrap().warnings.len(), 1);
}
