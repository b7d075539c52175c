//! What may be created, changed and deleted: `/validate`, driven as the API server drives it.

use serde_json::json;
use virga_crds::{
    Bytes, ImageRef, Instance, Interface, Port, PortAddress, PortSecurity, PortSpec, Project, ProjectSpec,
    SecurityGroup, UserData, VolumeSource,
};

use crate::harness::{
    CONTROLLER, Replica, api, hypervisor, image, in_shop, instance, json, review,
    reviews::{attach, causes, interface, network, validate, volume, warnings},
    settle, stock,
};

type Change = fn(&mut Instance);

#[tokio::test(start_paused = true)]
async fn what_can_never_be_right_is_refused_with_every_field_at_once() {
    let api = api();
    stock(&api);
    api.create(&network("front", "10.0.0.0/24"));
    let mut open = network("open", "10.0.1.0/24");
    open.spec.port_security = PortSecurity::Disabled;
    api.create(&open);
    api.create(&volume("data"));
    let mut holder = instance("holder");
    holder.spec.volumes = attach(&["data"]);
    api.create(&holder);
    let port = PortSpec {
        network: "front".into(),
        instance: "holder".into(),
        hostname: "holder".into(),
        mac: "fa:16:3e:00:00:01".into(),
        addresses: vec![PortAddress {
            subnet: "v4".into(),
            ip: "10.0.0.9".into(),
        }],
        ..PortSpec::default()
    };
    api.create(&in_shop(Port::new("holder-front", port)));
    let mut large = image("large");
    large.spec.min_disk = Bytes::gib(50);
    large.spec.min_memory = Bytes::gib(2);
    api.create(&large);
    for (name, node) in [("on-1", "node-1"), ("on-2", "node-2")] {
        let mut bound = volume(name);
        bound.spec.node_name = Some(node.into());
        api.create(&bound);
    }
    let replica = Replica::start(&api, "a").await;

    let table: Vec<(Change, &[&str])> = vec![
        (
            |i| i.spec.interfaces = vec![interface("front", Some("10.9.0.1"))],
            &[
                "spec.interfaces[front].address: 10.9.0.1 is in no subnet of the network (10.0.0.0/24); choose one that is, or leave the address out",
            ],
        ),
        (
            |i| i.spec.interfaces = vec![interface("front", Some("10.0.0.1"))],
            &[
                "spec.interfaces[front].address: 10.0.0.1 is the network, broadcast or gateway address of subnet v4; choose another, or leave it out",
            ],
        ),
        (
            |i| i.spec.interfaces = vec![interface("front", Some("10.0.0.9"))],
            &[
                "spec.interfaces[front].address: 10.0.0.9 belongs to Instance \"holder\": choose another, or leave the address out",
            ],
        ),
        (
            |i| {
                let mac = Some("fa:16:3e:00:00:01".into());
                i.spec.interfaces = vec![Interface {
                    mac,
                    ..interface("front", None)
                }];
            },
            &[
                "spec.interfaces[front].mac: fa:16:3e:00:00:01 belongs to Instance \"holder\": choose another, or leave the mac out",
            ],
        ),
        (
            |i| {
                let groups = |network| Interface {
                    security_groups: vec!["web".into()],
                    ..interface(network, None)
                };
                i.spec.interfaces = vec![groups("front"), groups("open")];
            },
            &[
                "spec.interfaces[front].securityGroups: libvirt's networks enforce no rules: leave it out, or have the operator install Virga with OVN",
                "spec.interfaces[open].securityGroups: Network open has port security off, so its Ports have neither security groups nor address pairs: leave them out",
            ],
        ),
        (
            |i| i.spec.interfaces = vec![interface("front", None), interface("front", None)],
            &[
                "spec.interfaces[front]: the network is listed twice: an Instance has at most one interface or sub-port a Network",
            ],
        ),
        (
            |i| i.spec.volumes = attach(&["data"]),
            &[
                "spec.volumes[data]: the Volume \"data\" belongs to Instance \"holder\": take it out of that one, or name another volume",
            ],
        ),
        (
            |i| i.spec.volumes = attach(&["on-1", "on-2"]),
            &[
                "spec.volumes: the Volume \"on-1\" is on node-1 and \"on-2\" on node-2: no host has both; copy one of them",
            ],
        ),
        (
            |i| {
                i.spec.image.as_mut().unwrap().name = "large".into();
                i.spec.boot_volume = Some("b".into());
            },
            &[
                "spec: exactly one of image and bootVolume must be given: they are the two sources of the root disk",
                "spec.flavor: the Image \"large\" needs a root disk of 50Gi, and Flavor \"m1.small\" has 5Gi: name a larger Flavor",
                "spec.flavor: the Image \"large\" needs 2Gi of memory, and Flavor \"m1.small\" has 1Gi: name a larger Flavor",
            ],
        ),
        (
            |i| {
                i.spec.user_data = Some(UserData {
                    inline: Some("x".repeat(70_000)),
                    secret_ref: None,
                });
            },
            &["spec.userData.inline: more than 64 KiB: have the guest fetch the rest from a URL"],
        ),
    ];
    for (n, (change, expected)) in table.into_iter().enumerate() {
        let mut object = instance("web");
        change(&mut object);
        let (code, found) = causes(&validate(&replica, &object, "Instance").await);
        assert_eq!(
            (code, found.as_slice()),
            (422, &*expected.iter().map(ToString::to_string).collect::<Vec<_>>()),
            "{n}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_has_what_kubectl_prints() {
    let api = api();
    let replica = Replica::start(&api, "a").await;
    let answer = validate(&replica, &network("front", "127.0.0.0/8"), "Network").await;
    let status = &answer["response"]["status"];
    assert_eq!(status["reason"], "Invalid");
    assert_eq!(status["details"]["kind"], "Network");
    assert_eq!(status["details"]["name"], "front");
    assert_eq!(status["details"]["group"], "virga.dev");
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("spec.subnets[v4].cidr: 127.0.0.0/8 is reserved")
    );
    assert_eq!(answer["response"]["uid"], "r-1");
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
}

#[tokio::test(start_paused = true)]
async fn what_is_only_missing_is_a_warning() {
    let api = api();
    let replica = Replica::start(&api, "a").await;
    let mut object = instance("web");
    object.spec.interfaces = vec![interface("front", None)];
    object.spec.image = Some(ImageRef {
        name: "debian".into(),
        namespace: Some("other".into()),
    });
    let answer = validate(&replica, &object, "Instance").await;
    assert_eq!(
        warnings(&answer),
        [
            "spec.flavor: there is no Flavor \"m1.small\": create it",
            "spec.image: there is no Image \"debian\" that namespace other shares: create it",
            "spec.interfaces[front]: Network shop/front doesn't exist: create it",
        ]
    );
    let mut from_image = volume("root");
    from_image.spec.source = Some(VolumeSource {
        image: ImageRef {
            name: "debian".into(),
            namespace: None,
        },
    });
    let answer = validate(&replica, &from_image, "Volume").await;
    assert_eq!(warnings(&answer).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn other_kinds_have_rules_too() {
    let api = api();
    api.create(&Project::new("shop", ProjectSpec::default()));
    let mut debian = image("debian");
    debian.spec.min_disk = Bytes::gib(3);
    api.create(&debian);
    let replica = Replica::start(&api, "a").await;

    let mut firmware = image("odd");
    firmware.spec.properties = [("hw_firmware_type".into(), "coreboot".into())].into();
    let taken = Project::new(
        "copy",
        ProjectSpec {
            namespace: Some("shop".into()),
            ..ProjectSpec::default()
        },
    );
    let system = Project::new("kube-system", ProjectSpec::default());
    let mut small = volume("root");
    small.spec.source = Some(VolumeSource {
        image: ImageRef {
            name: "debian".into(),
            namespace: None,
        },
    });
    let mut ratios = hypervisor("node-1");
    ratios.spec.allocation_ratios = serde_json::from_value(json!({"vcpus": "0"})).unwrap();
    let table = [
        (
            json(&firmware),
            "spec.properties[hw_firmware_type]: \"coreboot\" is not known: write bios or uefi",
        ),
        (
            json(&taken),
            "spec.namespace: namespace shop belongs to Project shop: choose another",
        ),
        (
            json(&system),
            "metadata.name: namespace kube-system is the cluster's own: choose another",
        ),
        (
            json(&small),
            "spec.size: 1Gi is less than the 3Gi that Image \"debian\" needs",
        ),
        (
            json(&ratios),
            "spec.allocationRatios.vcpus: reading the allocation ratio \"0\": it must be above 0 and at most 10000",
        ),
    ];
    for (object, expected) in table {
        let answer = replica
            .ask("/validate", &review("CREATE", "jane", Some(object), None))
            .await;
        assert_eq!(causes(&answer), (422, vec![expected.to_owned()]));
    }
    let of_instance = PortSpec {
        instance: "web".into(),
        ..PortSpec::default()
    };
    let port = json(&in_shop(Port::new("p", of_instance)));
    let by = |user: &str| review("CREATE", user, Some(port.clone()), None);
    assert_eq!(causes(&replica.ask("/validate", &by("jane")).await).0, 403);
    assert!(warnings(&replica.ask("/validate", &by(CONTROLLER)).await).is_empty());
    let mut moved = port.clone();
    moved["spec"]["nodeName"] = "node-2".into();
    let moved = review("UPDATE", "jane", Some(moved), Some(port.clone()));
    assert_eq!(causes(&replica.ask("/validate", &moved).await).0, 403);
    let labelled = {
        let mut labelled = port.clone();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        review("UPDATE", "jane", Some(labelled), Some(port.clone()))
    };
    assert!(warnings(&replica.ask("/validate", &labelled).await).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_port_that_a_user_makes_is_told_what_it_cannot_have_and_an_instance_that_names_it_what_it_waits_for() {
    let api = api();
    api.create(&network("front", "10.0.0.0/24"));
    let held = json!({
        "network": "front", "allocation": "Given", "instance": "web", "instanceUID": "u", "mac": "fa:16:3e:00:00:01",
        "addresses": [{"subnet": "v4", "ip": "10.0.0.5"}],
    });
    let made =
        |name: &str, spec: &serde_json::Value| in_shop(Port::new(name, serde_json::from_value(spec.clone()).unwrap()));
    api.create(&made("kept", &held));
    let replica = Replica::start(&api, "a").await;
    settle(&api).await;
    let port = |spec: serde_json::Value| json(&made("p", &spec));
    let ask = async |object| {
        replica
            .ask("/validate", &review("CREATE", "jane", Some(object), None))
            .await
    };
    let wrong = json!({
        "network": "front", "addresses": [{"subnet": "v6", "ip": "10.0.0.6"}], "qos": {"dscpMark": 5},
        "dhcpOptions": [{"name": "MTU", "value": "1"}],
    });
    assert_eq!(
        causes(&ask(port(wrong)).await).1,
        [
            "spec.dhcpOptions: libvirt's networks tell all guests the same: leave it out, or have the operator install Virga with \
             OVN",
            "spec.dhcpOptions[MTU].value: a number from 576 to 9216",
            "spec.qos: libvirt's networks limit and mark nothing: leave it out, or have the operator install Virga with OVN",
            "spec.addresses[v6].subnet: Network front has no such subnet, but v4",
        ]
    );
    let waits = json!({
        "network": "front", "mac": "fa:16:3e:00:00:01", "addresses": [{"subnet": "v4", "ip": "10.0.0.5"}],
    });
    assert_eq!(
        warnings(&ask(port(waits)).await),
        [
            "spec.addresses: 10.0.0.5 belongs to Instance \"web\": it waits",
            "spec.mac: fa:16:3e:00:00:01 belongs to Instance \"web\": it waits",
        ]
    );
    assert_eq!(
        warnings(&ask(port(json!({"network": "later"}))).await),
        ["spec.network: Network shop/later doesn't exist: create it"]
    );

    let named = |network: &str, port: &str| {
        let mut object = json(&instance("heir"));
        object["spec"]["interfaces"] = json!([{"network": network, "port": port}]);
        object
    };
    let of_port = |all: Vec<String>| {
        let mut found = all.into_iter().filter(|warning| warning.contains(".port: "));
        found.next().unwrap()
    };
    assert_eq!(
        of_port(warnings(&ask(named("front", "kept")).await)),
        "spec.interfaces[front].port: Port \"kept\" is Instance \"web\"'s: it waits until that lets go of it"
    );
    assert_eq!(
        of_port(warnings(&ask(named("front", "none")).await)),
        "spec.interfaces[front].port: there is no Port \"none\" in namespace shop: create it; until then it waits"
    );
    assert_eq!(
        causes(&ask(named("back", "kept")).await).1,
        [
            "spec.interfaces[back].port: Port shop/kept is in Network shop/front: write network front here, or name another Port"
        ]
    );
    let delete = review("DELETE", "jane", None, Some(json(&made("kept", &held))));
    assert_eq!(
        warnings(&replica.ask("/validate", &delete).await),
        ["Port kept is in use by Instance web: it goes when that lets go of it"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_wrong_can_still_be_labelled_and_let_go() {
    let api = api();
    let replica = Replica::start(&api, "a").await;
    let wrong = json(&network("front", "127.0.0.0/8"));
    let mut labelled = wrong.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let answer = replica
        .ask(
            "/validate",
            &review("UPDATE", "jane", Some(labelled), Some(wrong.clone())),
        )
        .await;
    assert!(warnings(&answer).is_empty());
    let mut leaving = wrong.clone();
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    leaving["spec"]["mtu"] = 1400.into();
    let answer = replica
        .ask(
            "/validate",
            &review("UPDATE", "jane", Some(leaving), Some(wrong.clone())),
        )
        .await;
    assert!(warnings(&answer).is_empty());
    let mut status = review("UPDATE", "jane", Some(wrong.clone()), Some(wrong));
    status["request"]["subResource"] = "status".into();
    assert!(warnings(&replica.ask("/validate", &status).await).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_others_did_since_keeps_no_instance_from_being_bound_or_stopped() {
    let api = api();
    stock(&api);
    // Two that came at the same time have the same volume; and the image has grown since.
    for name in ["web-1", "web-2"] {
        let mut object = instance(name);
        object.spec.volumes = attach(&["data"]);
        api.create(&object);
    }
    api.merge_status::<virga_crds::Image>(Some("shop"), "debian", json!({"virtualSize": "50Gi"}));
    let replica = Replica::start(&api, "a").await;
    let old = json(&api.read::<Instance>(Some("shop"), "web-1").unwrap());
    assert_eq!(
        causes(
            &replica
                .ask("/validate", &review("CREATE", "jane", Some(old.clone()), None))
                .await
        )
        .0,
        422
    );
    for (field, value) in [("nodeName", "node-1"), ("powerState", "Stopped")] {
        let mut new = old.clone();
        new["spec"][field] = value.into();
        let answer = replica
            .ask("/validate", &review("UPDATE", CONTROLLER, Some(new), Some(old.clone())))
            .await;
        assert!(warnings(&answer).is_empty(), "{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_is_not_lost() {
    let api = api();
    stock(&api);
    let mut user = instance("web");
    user.spec.volumes = attach(&["data"]);
    user.spec.interfaces = vec![Interface {
        security_groups: vec!["web".into()],
        ..interface("front", None)
    }];
    user.spec.server_group = Some("web".into());
    api.create(&user);
    let replica = Replica::start(&api, "a").await;
    let named = |kind: &str, name: &str| {
        let mut object = json!({"kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": {}});
        if kind == "Flavor" {
            object["metadata"].as_object_mut().unwrap().remove("namespace");
        }
        object
    };
    let targets = [
        ("Flavor", "m1.small"),
        ("Image", "debian"),
        ("Volume", "data"),
        ("Network", "front"),
        ("SecurityGroup", "web"),
        ("ServerGroup", "web"),
    ];
    for (kind, name) in targets {
        let mut object = named(kind, name);
        let answer = replica
            .ask("/validate", &review("DELETE", "jane", None, Some(object.clone())))
            .await;
        assert_eq!(causes(&answer).0, 403, "{kind}");
        let message = answer["response"]["status"]["message"].as_str().unwrap();
        assert_eq!(
            message,
            format!("{kind} {name:?} is in use by Instance shop/web: delete those first")
        );

        object["metadata"]["finalizers"] = json!(["virga.dev/controller"]);
        let answer = replica
            .ask("/validate", &review("DELETE", "jane", None, Some(object)))
            .await;
        assert_eq!(
            warnings(&answer),
            [format!(
                "{kind} {name} is in use by Instance shop/web: it goes when they are gone"
            )]
        );
    }
    for (kind, name) in [("Flavor", "m1.large"), ("Volume", "other"), ("Instance", "web")] {
        let answer = replica
            .ask("/validate", &review("DELETE", "jane", None, Some(named(kind, name))))
            .await;
        assert!(warnings(&answer).is_empty(), "{kind}");
    }
    // One that is on its way out holds nothing up.
    api.merge::<Instance>(
        Some("shop"),
        "web",
        json!({"metadata": {"finalizers": ["virga.dev/agent"]}}),
    );
    api.delete::<Instance>(Some("shop"), "web");
    settle(&api).await;
    let answer = replica
        .ask(
            "/validate",
            &review("DELETE", "jane", None, Some(named("Flavor", "m1.small"))),
        )
        .await;
    assert!(warnings(&answer).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_names_what_is_not_there_is_warned_of_and_an_address_group_that_one_names_is_kept() {
    let api = api();
    let replica = Replica::start(&api, "a").await;
    let group = json!({"apiVersion": "virga.dev/v1alpha1", "kind": "SecurityGroup", "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"rules": [
        {"direction": "Ingress", "remote": {"group": "web"}},
        {"direction": "Ingress", "remote": {"group": "db"}},
        {"direction": "Ingress", "remote": {"addressGroup": {"name": "offices"}}},
    ]}});
    let answer = replica
        .ask("/validate", &review("CREATE", "jane", Some(group.clone()), None))
        .await;
    assert_eq!(
        warnings(&answer),
        [
            "spec.rules[1].remote.group: there is no SecurityGroup \"db\" in namespace shop: until there is, the rule lets nothing pass",
            "spec.rules[2].remote.addressGroup: there is no AddressGroup \"offices\" in namespace shop: until there is, the rule lets nothing pass",
        ]
    );
    api.create(&serde_json::from_value::<SecurityGroup>(group).unwrap());
    settle(&api).await;
    let offices = json!({"kind": "AddressGroup", "metadata": {"name": "offices", "namespace": "shop"}, "spec": {}});
    let answer = replica
        .ask("/validate", &review("DELETE", "jane", None, Some(offices)))
        .await;
    assert_eq!(
        causes(&answer).0,
        403,
        "the finalizer that would keep it is not there yet"
    );
}

#[tokio::test(start_paused = true)]
async fn a_router_that_cannot_be_is_refused_and_one_that_waits_is_warned_of() {
    let api = api();
    stock(&api);
    api.create(&network("front", "10.0.0.0/24"));
    api.create(&network("wide", "10.0.0.0/16"));
    let replica = Replica::start(&api, "a").await;
    let router = json!({"apiVersion": "virga.dev/v1alpha1", "kind": "Router", "metadata": {"name": "edge", "namespace": "shop"},
    "spec": {
        "networks": [{"network": "front"}, {"network": "wide"}, {"network": "later"}],
        "externalGateway": {"network": {"name": "front"}},
        "routes": [{"destination": "192.0.2.0/24", "nextHop": "fd00::1"}],
    }});
    let answer = replica
        .ask("/validate", &review("CREATE", "jane", Some(router.clone()), None))
        .await;
    assert_eq!(
        causes(&answer).1,
        [
            "spec.externalGateway.network: Network \"front\" in namespace shop is not external: name one with scope External",
            "spec.networks[wide]: 10.0.0.0/16 overlaps with 10.0.0.0/24 of Network \"front\": a Router can't tell them apart, so \
             leave one out",
            "spec.routes[192.0.2.0/24 fd00::1]: one is IPv4 and the other IPv6",
        ]
    );
    let mut waits = router;
    waits["spec"] = json!({"networks": [{"network": "later"}]});
    let answer = replica
        .ask("/validate", &review("CREATE", "jane", Some(waits), None))
        .await;
    assert_eq!(
        warnings(&answer),
        ["spec.networks[later]: there is no Network \"later\" in namespace shop: create it"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_that_cannot_be_is_refused_and_one_that_waits_is_warned_of() {
    let api = api();
    stock(&api);
    api.create(&network("front", "10.0.0.0/24"));
    let replica = Replica::start(&api, "a").await;
    let balancer = |spec: serde_json::Value| {
        json!({"apiVersion": "virga.dev/v1alpha1", "kind": "LoadBalancer", "metadata": {"name": "web", "namespace": "shop"},
        "spec": spec})
    };
    let listeners = json!([{"protocol": "TCP", "port": 80}]);
    let spec = |address: &str, members: serde_json::Value| {
        balancer(json!({"vip": {"network": "front", "address": address}, "listeners": listeners, "members": members}))
    };
    let ask = async |object: serde_json::Value| {
        replica
            .ask("/validate", &review("CREATE", "jane", Some(object), None))
            .await
    };
    let outside = spec("10.9.0.9", json!({"addresses": ["10.9.0.9", "fd00::5", "10.0.0.9"]}));
    assert_eq!(
        causes(&ask(outside).await).1,
        [
            "spec.vip.address: 10.9.0.9 is in no subnet of the network (10.0.0.0/24); choose one that is, or leave the address out",
            "spec.members.addresses[10.9.0.9]: that is its own address: name somebody else",
            "spec.members.addresses[fd00::5]: Network \"front\" of the VIP has no addresses of this family: take a Network with some",
        ]
    );
    let gateway = causes(&ask(spec("10.0.0.1", json!({"addresses": ["10.0.0.9"]}))).await).1;
    assert!(
        gateway[0].contains("is the network, broadcast or gateway address"),
        "{gateway:?}"
    );
    let mut port = virga_crds::Port::new(
        "holder-front",
        virga_crds::PortSpec {
            network: "front".into(),
            instance: "holder".into(),
            mac: "fa:16:3e:00:00:01".into(),
            addresses: vec![virga_crds::PortAddress {
                subnet: "v4".into(),
                ip: "10.0.0.50".into(),
            }],
            ..virga_crds::PortSpec::default()
        },
    );
    port.metadata.namespace = Some("shop".into());
    api.create(&port);
    settle(&api).await;
    let taken = causes(&ask(spec("10.0.0.50", json!({"addresses": ["10.0.0.9"]}))).await).1;
    assert_eq!(
        taken,
        ["spec.vip.address: 10.0.0.50 belongs to Port \"holder-front\"; choose another, or leave the address out"]
    );
    let waits = balancer(json!({
        "vip": {"network": "later"}, "listeners": listeners, "members": {"selector": {"matchLabels": {"app": "none"}}},
    }));
    assert_eq!(
        warnings(&ask(waits).await),
        [
            "spec.vip.network: there is no Network \"later\" in namespace shop: create it",
            "spec.members.selector: it chooses no Instance in namespace shop yet: all connections are refused until it does",
        ]
    );
}

#[test]
fn the_kinds_that_are_validated_are_all_there_are() {
    let kinds: Vec<String> = virga_crds::definitions::all()
        .into_iter()
        .map(|crd| crd.spec.names.kind)
        .collect();
    assert_eq!(
        kinds.len(),
        16,
        "a new kind needs an arm in webhook/validate: {kinds:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_change_adds_is_held_against_the_others_and_what_was_there_is_not() {
    let api = api();
    stock(&api);
    api.create(&network("front", "10.0.0.0/24"));
    api.create(&network("back", "10.1.0.0/24"));
    api.create(&volume("data"));
    let mut far = volume("far");
    far.spec.node_name = Some("node-2".into());
    api.create(&far);
    let mut holder = instance("holder");
    holder.spec.volumes = attach(&["data"]);
    holder.spec.interfaces = vec![interface("back", Some("10.1.0.9"))];
    api.create(&holder);
    let replica = Replica::start(&api, "a").await;
    settle(&api).await;
    let mut old = instance("web-1");
    old.spec.node_name = Some("node-1".into());
    // It came to be somehow, and is no reason to refuse another change.
    old.spec.interfaces = vec![interface("front", Some("10.9.0.9"))];
    let change = async |change: Change| {
        let mut new = old.clone();
        change(&mut new);
        let json = |object: &Instance| {
            let mut object = serde_json::to_value(object).unwrap();
            object["kind"] = "Instance".into();
            object
        };
        let review = review("UPDATE", "jane", Some(json(&new)), Some(json(&old)));
        replica.ask("/validate", &review).await
    };
    let (_, found) = causes(
        &change(|i| {
            i.spec.volumes = attach(&["data"]);
            i.spec.interfaces.push(interface("back", Some("10.1.0.9")));
        })
        .await,
    );
    assert_eq!(
        found,
        [
            "spec.interfaces[back].address: 10.1.0.9 belongs to Instance \"holder\": choose another, or leave the address out",
            "spec.volumes[data]: the Volume \"data\" belongs to Instance \"holder\": take it out of that one, or name another volume",
        ]
    );
    let told = warnings(&change(|i| i.spec.volumes = attach(&["far", "none"])).await);
    assert_eq!(
        told,
        [
            "spec.volumes[far]: the Volume \"far\" is on another host: it can't be attached to an Instance on this one",
            "spec.volumes[none]: there is no Volume \"none\" in namespace shop: create it",
        ]
    );
    assert_eq!(warnings(&change(|i| i.spec.description = "mine".into()).await), [""; 0]);
}
