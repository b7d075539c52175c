//! Do guests run where operators have cut the cloud: in zones that aggregates make, and on CPUs of their own?

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde_json::json;
use virga_crds::{CpuPin, FlavorSpec, HostAggregate, HostAggregateSpec, Instance, Placement};
use virga_e2e::objects::tiny;
use virga_e2e::{BOUND, Case, Cluster, Installation, condition, eventually, is_ready, on_node, with_temp_namespace};

use crate::{GUEST, domain_of, given_a_place_for_idle_instances, host, idle, node_of, nothing_new_is_left, remains};

/// A host whose CPUs are cut until this goes, whatever becomes of the test.
struct Cut<'a> {
    cluster: &'a Cluster,
    host: &'a str,
}

impl<'a> Cut<'a> {
    fn new(cluster: &'a Cluster, host: &'a str, shared: &str, dedicated: &str) -> Self {
        let cut = Self { cluster, host };
        cut.set(&json!({"shared": shared, "dedicated": dedicated}));
        cut
    }

    fn set(&self, cpus: &serde_json::Value) {
        let change = json!({"spec": {"cpus": cpus}}).to_string();
        let said = self
            .cluster
            .kubectl_says(&["patch", "hypervisor", self.host, "--type=merge", "--patch", &change]);
        assert!(said.ok || std::thread::panicking(), "{}", said.stderr);
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        self.set(&serde_json::Value::Null);
    }
}

/// A flavor for Instances that do nothing, with these extra specs.
async fn flavor(t: &Case, name: &str, extra: &[(&str, &str)]) -> String {
    let pairs = extra.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    let spec = FlavorSpec {
        memory: virga_crds::Bytes::mib(64),
        disk: virga_crds::Bytes::mib(16),
        extra_specs: pairs.collect::<BTreeMap<_, _>>(),
        ..tiny()
    };
    t.flavor(name, spec).await
}

fn waits_for_room(instance: &Instance) -> bool {
    condition(instance, "Scheduled").is_some_and(|scheduled| scheduled.reason == "NoValidHost")
}

#[tokio::test]
async fn a_guest_has_a_cpu_of_its_own_and_gives_it_back() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("cuts a host's CPUs, and looks at a domain on its node") else {
        return;
    };
    // It holds many objects at a time.
    Box::pin(with_temp_namespace(&installation.cluster, async |t| {
        given_a_place_for_idle_instances(&t, lab, "10.42.0.0/24").await;
        let before = remains(lab);
        let names: Vec<String> = lab.nodes().iter().map(virga_lab::Node::name).collect();
        let cut = Cut::new(&t.cluster, &names[1], "0", "1");
        let own = flavor(&t, "own", &[("hw:cpu_policy", "dedicated")]).await;

        t.create(idle("pinned", &own)).await;
        let pinned = t.await_within::<Instance>(GUEST, "pinned", "Ready", is_ready).await;
        assert_eq!(node_of(&pinned), names[1], "the only host with dedicated CPUs");
        let held = pinned.status.as_ref().unwrap().topology.clone().unwrap();
        assert_eq!(held.cells[0].pins, [CpuPin { vcpu: 0, cpu: 1 }]);
        let node = host(lab, &pinned);
        let xml = on_node::run(&node, &["virsh", "dumpxml", &domain_of(&pinned)]);
        assert!(xml.contains("<vcpupin vcpu='0' cpuset='1'/>"), "{xml}");
        let pins = on_node::run(&node, &["virsh", "vcpupin", &domain_of(&pinned)]);
        assert_eq!(
            pins.lines().nth(2).map(|line| line.split_whitespace().collect()),
            Some(vec!["0", "1"]),
            "{pins}"
        );

        t.create(idle("second", &own)).await;
        let waits = t
            .await_condition::<Instance>("second", "NoValidHost", waits_for_room)
            .await;
        let said = &condition(&waits, "Scheduled").unwrap().message;
        println!("{said}");
        assert!(said.starts_with("0/3 hosts: "), "{said}");

        // One without CPUs of its own stays off the pinned one's.
        let shared = flavor(&t, "shared", &[]).await;
        let mut beside = idle("beside", &shared);
        beside.spec.placement = Some(Placement {
            host: Some(names[1].clone()),
            ..Placement::default()
        });
        t.create(beside).await;
        let beside = t.await_within::<Instance>(GUEST, "beside", "Ready", is_ready).await;
        let pins = on_node::run(&node, &["virsh", "vcpupin", &domain_of(&beside)]);
        assert_eq!(
            pins.lines().nth(2).map(|line| line.split_whitespace().collect()),
            Some(vec!["0", "0"]),
            "{pins}"
        );

        // With another size it needs none. It does not hear the power button: nobody is to wait for that.
        t.patch::<Instance>("pinned", json!({"spec": {"powerState": "Stopped"}}))
            .await;
        on_node::run(&node, &["virsh", "destroy", &domain_of(&pinned)]);
        t.patch::<Instance>("pinned", json!({"spec": {"flavor": shared}})).await;
        let second = t.await_within::<Instance>(GUEST, "second", "Ready", is_ready).await;
        assert_eq!(node_of(&second), names[1]);
        assert_eq!(
            second.status.unwrap().topology.unwrap().cells[0].pins,
            held.cells[0].pins
        );
        let resized = t.await_within::<Instance>(GUEST, "pinned", "Ready", is_ready).await;
        assert_eq!(resized.status.unwrap().topology, None);
        for name in ["pinned", "second", "beside"] {
            t.delete::<Instance>(GUEST, name).await;
        }
        nothing_new_is_left(lab, &before).await;
        drop(cut);
    }))
    .await;
}

#[tokio::test]
async fn zones_are_made_of_aggregates_and_hold_for_instances() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("puts a disk into the nodes' store") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_idle_instances(&t, lab, "10.43.0.0/24").await;
        let before = remains(lab);
        let names: Vec<String> = lab.nodes().iter().map(virga_lab::Node::name).collect();
        let (east, west) = names.split_first().unwrap();
        for (zone, members) in [("e2e-east", std::slice::from_ref(east)), ("e2e-west", west)] {
            let spec = HostAggregateSpec {
                hypervisors: Some(members.to_vec()),
                availability_zone: Some(zone.into()),
                ..HostAggregateSpec::default()
            };
            t.create_cluster_wide(HostAggregate::new(zone, spec)).await;
        }
        let asked = |name: &str, zone: &str| {
            let mut instance = idle(name, &flavor);
            instance.spec.placement = Some(Placement {
                availability_zone: Some(zone.into()),
                ..Placement::default()
            });
            instance
        };
        // The scheduler hears of the zones a moment later.
        eventually("the zones are known", BOUND, async || {
            let said = t.dry_run(&asked("first", "e2e-west"));
            said.stderr
                .contains("2 of 3 hosts fit")
                .then_some(())
                .ok_or(said.stderr)
        })
        .await;
        for (name, zone) in [
            ("e-1", "e2e-east"),
            ("w-1", "e2e-west"),
            ("w-2", "e2e-west"),
            ("n-1", "e2e-north"),
        ] {
            t.create(asked(name, zone)).await;
        }
        let mut places = BTreeMap::new();
        for name in ["e-1", "w-1", "w-2"] {
            let found = t.await_within::<Instance>(GUEST, name, "Ready", is_ready).await;
            places.insert(found.name_any(), node_of(&found));
        }
        assert_eq!(&places["e-1"], east);
        let mut of_west = [places["w-1"].clone(), places["w-2"].clone()];
        of_west.sort_unstable();
        assert_eq!(of_west, west, "they spread over their zone");
        let waits = t
            .await_condition::<Instance>("n-1", "NoValidHost", waits_for_room)
            .await;
        let said = &condition(&waits, "Scheduled").unwrap().message;
        assert_eq!(said, "0/3 hosts: 3 AvailabilityZoneFilter");
        for name in ["e-1", "w-1", "w-2", "n-1"] {
            t.delete::<Instance>(GUEST, name).await;
        }
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
