//! What is asked of hosts beyond room: what is wrong is refused with field, reason and cure; what is right chooses the host.

use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use virga_crds::{Bytes, Flavor, HostAggregate, Hypervisor, Instance, conditions::types};
use virga_e2e::objects::{guest, instance, tiny};
use virga_e2e::{BOUND, Case, condition, eventually, with_temp_namespace};

use crate::hosts::Hosts;
use crate::process::Controller;
use crate::stage;

/// The answer to `kubectl create --dry-run=server` of this.
fn says(t: &Case, object: &Value) -> String {
    let yaml = serde_yaml::to_string(object).unwrap();
    let namespace = t.namespace.as_str();
    let args = ["create", "--dry-run=server", "--filename=-", "--namespace", namespace];
    t.cluster.kubectl_says_of(&args, &yaml).stderr
}

fn object(kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": "virga.dev/v1alpha1", "kind": kind, "metadata": {"name": "wrong"}, "spec": spec})
}

fn with_extra_spec(key: &str, value: &str) -> Value {
    object(
        "Flavor",
        &json!({"vcpus": 1, "memory": "1Gi", "extraSpecs": {key: value}}),
    )
}

fn with_hints(hints: &Value) -> Value {
    let spec = json!({"flavor": "m1.small", "image": {"name": "guest"}, "placement": {"hints": hints}});
    object("Instance", &spec)
}

async fn made(t: &Case, spec: &Value) -> HostAggregate {
    let name = format!("{}-zone", t.namespace);
    t.create_cluster_wide(HostAggregate::new(&name, serde_json::from_value(spec.clone()).unwrap()))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_by_itself_is_refused_with_its_field_and_the_cure() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        let deep = format!("{}true{}", r#"["not", "#.repeat(20), "]".repeat(20));
        for (wrong, field, words) in [
            (
                with_extra_spec("resources:VCPU", "many"),
                "spec.extraSpecs[resources:VCPU]",
                "write a whole number",
            ),
            (
                with_extra_spec("hw:cpu_polcy", "shared"),
                "spec.extraSpecs[hw:cpu_polcy]",
                "did you mean hw:cpu_policy?",
            ),
            (
                with_extra_spec("hw:cpu_realtime", "true"),
                "spec.extraSpecs[hw:cpu_realtime]",
                "the host's scheduler is not to be taken over by a guest",
            ),
            (
                with_extra_spec("trait:CUSTOM_SSD", "maybe"),
                "spec.extraSpecs[trait:CUSTOM_SSD]",
                "write required or forbidden",
            ),
            (
                with_hints(&json!({"differentHosts": ["web-1"]})),
                "spec.placement.hints.differentHosts",
                "unknown field",
            ),
            (
                with_hints(&json!({"query": deep})),
                "spec.placement.hints.query",
                "levels deep",
            ),
            (
                with_hints(&json!({"query": "free_ram_mb > 4"})),
                "spec.placement.hints.query",
                "not JSON",
            ),
            (
                with_hints(&json!({"sameHost": ["wrong"]})),
                "spec.placement.hints.sameHost",
                "name others",
            ),
            (
                object("Hypervisor", &json!({"allocationRatios": {"vcpus": "0"}})),
                "spec.allocationRatios.vcpus",
                "must be above 0",
            ),
            (
                object(
                    "HostAggregate",
                    &json!({"selector": {}, "metadata": {"cpu_allocation_ratio": "-1"}}),
                ),
                "spec.metadata[cpu_allocation_ratio]",
                "decimal number such as 1.5",
            ),
        ] {
            let said = says(&t, &wrong);
            let quoted = field.replace('"', "\\\"");
            assert!(said.contains(&quoted) && said.contains(words), "{field}: {said}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_in_one_zone_and_a_zone_chooses_hosts() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        let (hosts, flavor) = stage(&t, &controller, 2, Bytes::gib(8)).await;
        let zone = format!("z-{}", t.namespace);
        let aggregate = made(&t, &json!({"hypervisors": [hosts.name(1)], "availabilityZone": zone})).await;

        // A second zone for the host is refused, by an aggregate and by the host's own word.
        let second = object(
            "HostAggregate",
            &json!({"hypervisors": [hosts.name(1)], "availabilityZone": "another"}),
        );
        let name = aggregate.metadata.name.clone().unwrap();
        eventually("a second zone is refused", BOUND, async || {
            let said = says(&t, &second);
            let words = format!("{} is in zone {zone} by HostAggregate {name}", hosts.name(1));
            (said.contains("spec.availabilityZone") && said.contains(&words))
                .then_some(())
                .ok_or(said)
        })
        .await;
        let hypervisors: Api<Hypervisor> = Api::all(t.client.clone());
        let moved = Patch::Merge(json!({"spec": {"availabilityZone": "another"}}));
        let refused = hypervisors.patch(hosts.name(1), &PatchParams::default(), &moved).await;
        assert!(refused.unwrap_err().to_string().contains("spec.availabilityZone"));

        let mut new = instance("in-the-zone", &flavor);
        new.spec.placement = serde_json::from_value(json!({"availabilityZone": zone})).unwrap();
        t.create(new).await;
        let placed = t
            .await_condition::<Instance>("in-the-zone", "placed", |found| found.spec.node_name.is_some())
            .await;
        assert_eq!(placed.spec.node_name.as_deref(), Some(hosts.name(1)));

        let aggregates: Api<HostAggregate> = Api::all(t.client.clone());
        eventually("the aggregate counts its host", BOUND, async || {
            let found = aggregates.get(&name).await.map_err(|error| error.to_string())?;
            let status = found.status.unwrap_or_default();
            (status.hypervisors == 1)
                .then_some(())
                .ok_or_else(|| format!("{status:?}"))
        })
        .await;
        aggregates.delete(&name, &DeleteParams::default()).await.unwrap();
        hosts.down(&t).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_host_that_is_cordoned_is_warned_of_and_waited_for() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        let (hosts, flavor) = stage(&t, &controller, 2, Bytes::gib(8)).await;
        hosts.cordon(&t, 0, "a new disk").await;
        let mut new = instance("forced", &flavor);
        new.spec.placement = serde_json::from_value(json!({"host": hosts.name(0)})).unwrap();
        let mut yaml = json!(new);
        yaml["metadata"]["name"] = "forced".into();
        eventually("a warning says so", BOUND, async || {
            let said = says(&t, &yaml);
            (said.contains("spec.placement.host") && said.contains("is cordoned"))
                .then_some(())
                .ok_or(said)
        })
        .await;
        t.create(new).await;
        let told = t
            .await_condition::<Instance>("forced", "says why it has no host", |found| {
                condition(found, types::SCHEDULED).is_some_and(|scheduled| scheduled.reason == "NoValidHost")
            })
            .await;
        let message = condition(&told, types::SCHEDULED).unwrap().message;
        assert!(message.contains("ComputeFilter"), "{message}");
        let lifted = Patch::Merge(json!({"spec": {"scheduling": "Enabled", "reason": null}}));
        let hypervisors: Api<Hypervisor> = Api::all(t.client.clone());
        hypervisors
            .patch(hosts.name(0), &PatchParams::default(), &lifted)
            .await
            .unwrap();
        let placed = t
            .await_condition::<Instance>("forced", "placed", |found| found.spec.node_name.is_some())
            .await;
        assert_eq!(placed.spec.node_name.as_deref(), Some(hosts.name(0)));
        hosts.down(&t).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trait_of_the_operators_own_chooses_the_host() {
    let controller = Controller::running().await;
    with_temp_namespace(controller.cluster, async |t| {
        let hosts = Hosts::up(&t, 2, Bytes::gib(8)).await;
        t.create(guest()).await;
        let mut spec = tiny();
        spec.extra_specs = [("trait:CUSTOM_SSD".to_owned(), "required".to_owned())].into();
        let ssd = Patch::Merge(json!({"spec": {"traits": ["CUSTOM_SSD"]}}));
        let hypervisors: Api<Hypervisor> = Api::all(t.client.clone());
        hypervisors
            .patch(hosts.name(1), &PatchParams::default(), &ssd)
            .await
            .unwrap();
        let flavor = t.flavor("ssd", spec).await;
        controller.knows_flavor(&t, &flavor).await;
        for n in 0..3 {
            let name = format!("i-{n}");
            t.create(instance(&name, &flavor)).await;
            let placed = t
                .await_condition::<Instance>(&name, "placed", |found| found.spec.node_name.is_some())
                .await;
            assert_eq!(placed.spec.node_name.as_deref(), Some(hosts.name(1)));
        }
        // What a Flavor asks for never changes, so what was counted stays right.
        let flavors: Api<Flavor> = Api::all(t.client.clone());
        let change = Patch::Merge(json!({"spec": {"extraSpecs": {"trait:CUSTOM_SSD": "forbidden"}}}));
        let refused = flavors.patch(&flavor, &PatchParams::default(), &change).await;
        assert!(refused.unwrap_err().to_string().contains("extraSpecs is immutable"));
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let probe = t.api::<Instance>().create(&dry_run, &instance("probe", &flavor)).await;
        assert_eq!(probe.unwrap().spec.node_name.as_deref(), Some(hosts.name(1)));
        hosts.down(&t).await;
    })
    .await;
}
