//! What may members and readers of a project do?

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use virga_crds::{NetworkSpec, NetworkType, Placement};
use virga_e2e::objects::{instance, network};
use virga_e2e::{BOUND, eventually, with_temp_namespace};

use crate::with_the_chart_s_rules;

#[tokio::test]
async fn a_member_of_a_project_does_what_members_do_and_a_reader_reads() {
    let cluster = with_the_chart_s_rules();
    with_temp_namespace(cluster, async |t| {
        for (role, user) in [("virga-member", "ann"), ("virga-reader", "bob")] {
            t.cluster.kubectl(&[
                "create",
                "rolebinding",
                user,
                &format!("--clusterrole={role}"),
                &format!("--user={user}"),
                "--namespace",
                &t.namespace,
            ]);
        }
        let may = async |user: &str, verb: &str, what: &str| {
            let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
            let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
            let review: SubjectAccessReview = serde_json::from_value(json!({
                "metadata": {},
                "spec": {
                    "user": user, "groups": ["system:authenticated"],
                    "resourceAttributes": {
                        "namespace": t.namespace, "verb": verb,
                        "group": group, "resource": resource, "subresource": subresource,
                    },
                },
            }))
            .unwrap();
            let reviews: Api<SubjectAccessReview> = Api::all(t.client.clone());
            let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
            answer.status.unwrap().allowed
        };
        for (verb, what, member, reader) in [
            ("create", "instances.virga.dev", true, false),
            ("delete", "volumes.virga.dev", true, false),
            ("get", "networks.virga.dev", true, true),
            ("watch", "instances.virga.dev", true, true),
            ("get", "flavors.virga.dev", true, true),
            ("create", "flavors.virga.dev", false, false),
            ("create", "secrets", true, false),
            ("get", "secrets", true, false),
            ("create", "ports.virga.dev", true, false),
            ("delete", "ports.virga.dev/held", false, false),
            ("get", "migrations.virga.dev", true, true),
            ("create", "migrations.virga.dev", false, false),
            ("update", "instances.virga.dev/status", false, false),
            ("update", "hypervisors.virga.dev", false, false),
            ("create", "projects.virga.dev", false, false),
        ] {
            assert_eq!(may("ann", verb, what).await, member, "member: {verb} {what}");
            assert_eq!(may("bob", verb, what).await, reader, "reader: {verb} {what}");
        }
    })
    .await;
}

#[tokio::test]
async fn only_who_may_bind_a_hypervisor_says_on_which_host_an_instance_runs() {
    let cluster = with_the_chart_s_rules();
    with_temp_namespace(cluster, async |t| {
        let namespace = t.namespace.as_str();
        for (role, user) in [("virga-member", "ann"), ("virga-member", "op")] {
            let (role, binding) = (format!("--clusterrole={role}"), format!("--user={user}"));
            t.cluster
                .kubectl(&["create", "rolebinding", user, &role, &binding, "--namespace", namespace]);
        }
        let role = format!("{namespace}-binder");
        t.cluster.apply(&format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {role}}}\n\
             rules:\n- {{apiGroups: [virga.dev], resources: [hypervisors], verbs: [bind], resourceNames: [node-1]}}\n"
        ));
        let (to_role, to_user) = (format!("--clusterrole={role}"), "--user=op");
        t.cluster
            .kubectl(&["create", "clusterrolebinding", &role, &to_role, to_user]);
        let creates = |user: &str, host: Option<&str>| {
            let mut new = instance("forced", "m1.small");
            new.spec.placement = host.map(|host| Placement {
                host: Some(host.into()),
                ..Placement::default()
            });
            let as_user = format!("--as={user}");
            let args = [
                "create",
                "--dry-run=server",
                "--filename=-",
                "--namespace",
                namespace,
                &as_user,
            ];
            t.cluster.kubectl_says_of(&args, &serde_yaml::to_string(&new).unwrap())
        };
        // A policy is in force some time after it was made.
        eventually("a member can't choose the host", BOUND, async || {
            let said = creates("ann", Some("node-1")).stderr;
            said.contains("spec.placement.host: only those who may bind a Hypervisor choose the host")
                .then_some(())
                .ok_or(said)
        })
        .await;
        eventually("a binder can", BOUND, async || {
            let said = creates("op", Some("node-1"));
            said.ok.then_some(()).ok_or(said.stderr)
        })
        .await;
        assert!(!creates("op", Some("node-2")).ok, "that host is not theirs");
        assert!(creates("ann", None).ok, "who names no host needs no right");
        for kind in ["clusterrolebinding", "clusterrole"] {
            t.cluster.kubectl(&["delete", kind, &role]);
        }
    })
    .await;
}

#[tokio::test]
async fn members_write_ports_of_their_own_and_leave_those_that_go_with_their_holder_alone() {
    let cluster = with_the_chart_s_rules();
    with_temp_namespace(cluster, async |t| {
        let namespace = t.namespace.as_str();
        let (role, user) = ("--clusterrole=virga-member", "--user=ann");
        t.cluster
            .kubectl(&["create", "rolebinding", "ann", role, user, "--namespace", namespace]);
        let port = |name: &str, more: &str| {
            format!(
                "apiVersion: virga.dev/v1alpha1\nkind: Port\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
                 spec: {{network: front{more}}}\n"
            )
        };
        let mac = ", mac: \"fa:16:3e:00:00:01\"";
        t.cluster
            .apply(&port("web-1-front", &format!("{mac}, instance: web-1")));
        t.cluster.apply(&port("kept", &format!("{mac}, allocation: Given")));
        let ann = |args: &[&str]| {
            let mut all = args.to_vec();
            all.extend(["--namespace", namespace, "--as=ann"]);
            t.cluster.kubectl_says(&all)
        };
        let words = "this Port is made, changed and deleted with its Instance, Router, FloatingIP or LoadBalancer";
        // A policy is in force some time after it was made.
        eventually("a member can't delete an Instance's Port", BOUND, async || {
            let said = ann(&["delete", "port", "web-1-front", "--dry-run=server"]).stderr;
            said.contains(words).then_some(()).ok_or(said)
        })
        .await;
        let owners = r#"{"metadata":{"ownerReferences":null,"labels":{"a":"b"}}}"#;
        let patched = |name: &str| ann(&["patch", "port", name, "--type=merge", "--patch", owners]);
        assert!(patched("web-1-front").stderr.contains(words));
        let said = patched("kept");
        assert!(said.ok, "{}", said.stderr);
        let made = t
            .cluster
            .kubectl_says_of(&["create", "--filename=-", "--as=ann"], &port("mine", ""));
        assert!(made.ok, "{}", made.stderr);
        for name in ["kept", "mine"] {
            let said = ann(&["delete", "port", name]);
            assert!(said.ok, "{}", said.stderr);
        }
        // Who writes all of them deletes these too, as Kubernetes' own collectors do.
        t.cluster
            .kubectl(&["delete", "port", "web-1-front", "--namespace", namespace]);
    })
    .await;
}

#[tokio::test]
async fn only_who_may_use_a_physical_network_reaches_into_it() {
    let cluster = with_the_chart_s_rules();
    with_temp_namespace(cluster, async |t| {
        let namespace = t.namespace.as_str();
        for user in ["ann", "op"] {
            let (role, binding) = ("--clusterrole=virga-member", format!("--user={user}"));
            t.cluster
                .kubectl(&["create", "rolebinding", user, role, &binding, "--namespace", namespace]);
        }
        let role = format!("{namespace}-user");
        t.cluster.apply(&format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {role}}}\nrules:\n\
             - {{apiGroups: [virga.dev], resources: [physicalnetworks], verbs: [use], resourceNames: [physnet]}}\n"
        ));
        let (to_role, to_user) = (format!("--clusterrole={role}"), "--user=op");
        t.cluster
            .kubectl(&["create", "clusterrolebinding", &role, &to_role, to_user]);
        let creates = |user: &str, change: &dyn Fn(&mut NetworkSpec)| {
            let mut new = network("provider", "10.0.0.0/24");
            change(&mut new.spec);
            let (as_user, yaml) = (format!("--as={user}"), serde_yaml::to_string(&new).unwrap());
            let args = [
                "create",
                "--dry-run=server",
                "--filename=-",
                "--namespace",
                namespace,
                &as_user,
            ];
            t.cluster.kubectl_says_of(&args, &yaml)
        };
        let vlan = |physical: &'static str| {
            move |spec: &mut NetworkSpec| {
                spec.type_ = NetworkType::Vlan;
                spec.physical_network = Some(physical.into());
                spec.segment_id = Some(42);
            }
        };
        eventually("a member can't", BOUND, async || {
            let said = creates("ann", &vlan("physnet")).stderr;
            let refused = said.contains("spec.physicalNetwork: only those who may use this physical network");
            refused.then_some(()).ok_or(said)
        })
        .await;
        eventually("who may use it can", BOUND, async || {
            let said = creates("op", &vlan("physnet"));
            said.ok.then_some(()).ok_or(said.stderr)
        })
        .await;
        assert!(!creates("op", &vlan("other")).ok, "that one is not theirs");
        assert!(creates("ann", &|_| {}).ok, "an overlay needs no right");
        // The schema: each type with what it needs.
        for (words, change) in [
            (
                "segmentID is for the type VLAN",
                &(|spec: &mut NetworkSpec| spec.segment_id = Some(1)) as &dyn Fn(&mut _),
            ),
            (
                "physicalNetwork is for the types Flat and VLAN",
                &|spec: &mut NetworkSpec| {
                    spec.type_ = NetworkType::Flat;
                },
            ),
        ] {
            let said = creates("op", change).stderr;
            assert!(said.contains(words), "{said}");
        }
        for kind in ["clusterrolebinding", "clusterrole"] {
            t.cluster.kubectl(&["delete", kind, &role]);
        }
    })
    .await;
}
