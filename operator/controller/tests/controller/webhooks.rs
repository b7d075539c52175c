//! Who binds, where a new Instance goes, who may read user data, and whose key is signed: `/guard`, `/schedule`,
//! `/userdata` and `/certificate`.

use axum::body::Body;
use http::{Request, StatusCode};
use k8s_openapi::{
    ByteString,
    api::{
        authentication::v1::{TokenReview, TokenReviewStatus, UserInfo},
        core::v1::Secret,
    },
};
use kube::{Client, api::ObjectMeta, client::Body as ClientBody};
use serde_json::{Value, json};
use virga_controller::certs::Authorities;
use virga_crds::{Migration, MigrationSpec, MigrationType, SecretKeyRef, UserData};
use virga_testkit::FakeApi;
use virga_transfer::{NodeName, certificate::NodeKey, tls::Credentials};

use crate::harness::{
    AGENT, CONTROLLER, Replica, api, image, instance, json, node, post, review,
    reviews::{attach, causes, patch, volume, warnings},
    send, settle, stock,
};

#[tokio::test(start_paused = true)]
async fn only_the_controller_binds() {
    let api = api();
    let replica = Replica::start(&api, "a").await;
    let free = json(&instance("web"));
    let bound = |node: &str| {
        let mut object = free.clone();
        object["spec"]["nodeName"] = node.into();
        Some(object)
    };
    let ask = async |operation: &str, user: &str, new: Option<Value>, old: Option<Value>| {
        replica.ask("/guard", &review(operation, user, new, old)).await
    };
    let (code, found) = causes(&ask("CREATE", "jane", bound("node-1"), None).await);
    assert_eq!(
        (code, found.as_slice()),
        (
            403,
            &["spec.nodeName: is set by the scheduler only: leave it out; to choose \
        where it runs, use spec.placement"
                .to_owned()][..]
        )
    );
    assert_eq!(
        causes(&ask("UPDATE", "jane", bound("node-2"), bound("node-1")).await).0,
        403
    );
    assert_eq!(
        causes(&ask("UPDATE", AGENT, bound("node-2"), Some(free.clone())).await).0,
        403
    );

    let noted =
        |user: &str| json!({"op": "add", "path": "/metadata/annotations", "value": {"virga.dev/requested-by": user}});
    assert_eq!(
        patch(&ask("CREATE", "jane", Some(free.clone()), None).await),
        json!([noted(r#"{"create":"jane"}"#)])
    );
    assert_eq!(
        patch(&ask("UPDATE", "jane", bound("node-1"), bound("node-1")).await),
        json!([noted("{}")])
    );
    assert_eq!(
        patch(&ask("UPDATE", CONTROLLER, bound("node-2"), bound("node-1")).await),
        json!([])
    );
    let kept = ask("UPDATE", "jane", Some(free.clone()), bound("node-1")).await;
    assert_eq!(
        patch(&kept),
        json!([{"op": "add", "path": "/spec/nodeName", "value": "node-1"}, noted("{}")])
    );
    let mut disk = json(&volume("data"));
    disk["spec"]["nodeName"] = "node-1".into();
    assert_eq!(causes(&ask("CREATE", "jane", Some(disk), None).await).0, 403);
}

#[tokio::test(start_paused = true)]
async fn whose_a_port_is_and_what_it_was_given_is_the_controllers_to_say() {
    let api = api();
    let replica = Replica::start(&api, "a").await;
    let object = |spec: Value| {
        Some(json!({
            "apiVersion": "virga.dev/v1alpha1", "kind": "Port", "metadata": {"name": "kept", "namespace": "shop"}, "spec": spec,
        }))
    };
    let ask = async |operation: &str, user: &str, new: Value, old: Option<Value>| {
        let old = old.and_then(object);
        replica.ask("/guard", &review(operation, user, object(new), old)).await
    };
    let claim = json!({"network": "front", "instance": "web"});
    let (code, found) = causes(&ask("CREATE", "jane", claim.clone(), None).await);
    assert_eq!(code, 403);
    assert_eq!(
        found,
        ["spec.instance: is set by the controller only: leave it out; an Instance that names the Port gets it"]
    );
    assert!(patch(&ask("CREATE", CONTROLLER, claim, None).await) == json!([]));
    let manifest = json!({"network": "front", "addresses": [{"subnet": "v4", "ip": "10.0.0.5"}]});
    assert!(patch(&ask("CREATE", "jane", manifest.clone(), None).await) == json!([]));

    // A file from Git that is written back takes nothing away.
    let both = json!([{"subnet": "v4", "ip": "10.0.0.5"}, {"subnet": "v6", "ip": "fd00::5"}]);
    let live = json!({
        "network": "front", "addresses": both, "mac": "fa:16:3e:00:00:01", "allocation": "Given",
        "instance": "web", "instanceUID": "u", "hostname": "web", "nodeName": "node-1",
    });
    let add = |field: &str, value: Value| json!({"op": "add", "path": format!("/spec/{field}"), "value": value});
    assert_eq!(
        patch(&ask("UPDATE", "jane", manifest.clone(), Some(live.clone())).await),
        json!([
            add("allocation", json!("Given")),
            add("instance", json!("web")),
            add("instanceUID", json!("u")),
            add("hostname", json!("web")),
            add("nodeName", json!("node-1")),
            add("mac", json!("fa:16:3e:00:00:01")),
            add("addresses", both),
        ])
    );
    let mut other = live.clone();
    other["nodeName"] = "node-2".into();
    let (code, found) = causes(&ask("UPDATE", "jane", other, Some(live.clone())).await);
    assert_eq!(code, 403);
    assert_eq!(
        found,
        ["spec.nodeName: is set by the controller only, and says who has the Port: leave it out"]
    );
    // What it was not given yet, its author may complete; another address is the schema's to refuse.
    let fuller = json!({"network": "front", "mac": "fa:16:3e:00:00:02"});
    assert_eq!(patch(&ask("UPDATE", "jane", fuller, Some(manifest)).await), json!([]));
    let mut moved = live.clone();
    moved["addresses"] = json!([{"subnet": "v4", "ip": "10.0.0.6"}]);
    assert_eq!(patch(&ask("UPDATE", "jane", moved, Some(live)).await), json!([]));
}

#[tokio::test(start_paused = true)]
async fn who_asked_for_what_is_noted_and_can_not_be_forged() {
    let api = api();
    let replica = Replica::start(&api, "a").await;
    let object = |power: &str, noted: Option<&str>| {
        let mut object = json(&instance("web"));
        object["spec"]["powerState"] = power.into();
        object["metadata"]["annotations"] = json!({"mine": "1"});
        if let Some(noted) = noted {
            object["metadata"]["annotations"]["virga.dev/requested-by"] = noted.into();
        }
        Some(object)
    };
    let ask = async |operation: &str, user: &str, new: Option<Value>, old: Option<Value>| {
        patch(&replica.ask("/guard", &review(operation, user, new, old)).await)
    };
    let wanted =
        |noted: &str| json!([{"op": "add", "path": "/metadata/annotations/virga.dev~1requested-by", "value": noted}]);
    let (alice, both) = (r#"{"create":"alice"}"#, r#"{"create":"alice","powerState":"bob"}"#);
    assert_eq!(
        ask("CREATE", "alice", object("Running", None), None).await,
        wanted(alice)
    );
    let forged = object("Running", Some(r#"{"create":"root"}"#));
    assert_eq!(ask("CREATE", "alice", forged, None).await, wanted(alice));
    let changed = ask(
        "UPDATE",
        "bob",
        object("Stopped", Some(alice)),
        object("Running", Some(alice)),
    );
    assert_eq!(changed.await, wanted(both));
    // Neither taking it out nor writing over it helps, nor does an update that changes no verb make a trace.
    for said in [None, Some("{}"), Some(alice)] {
        let again = ask("UPDATE", AGENT, object("Stopped", said), object("Stopped", Some(both)));
        assert_eq!(again.await, wanted(both), "{said:?}");
    }
    let same = ask(
        "UPDATE",
        "eve",
        object("Stopped", Some(both)),
        object("Stopped", Some(both)),
    );
    assert_eq!(same.await, json!([]));
}

#[tokio::test(start_paused = true)]
async fn the_leader_places_and_a_dry_run_only_tells() {
    let api = api();
    stock(&api);
    for name in ["node-1", "node-2", "node-3"] {
        node(&api, name).await;
    }
    let replica = Replica::start(&api, "a").await;
    let ask = async |object: Value, dry_run: bool| {
        let mut review = review("CREATE", "jane", Some(object), None);
        review["request"]["dryRun"] = dry_run.into();
        // The API server gives each call a UID of its own; the Instances here all have names of their own.
        review["request"]["uid"] = review["request"]["name"].clone();
        replica.ask("/schedule", &review).await
    };
    assert_eq!(
        patch(&ask(json(&instance("web")), false).await),
        json!([]),
        "not yet the leader: admitted unbound"
    );
    replica.lead().await;

    let dry = ask(json(&instance("web")), true).await;
    let node = patch(&dry)[0]["value"].as_str().unwrap().to_owned();
    assert_eq!(
        warnings(&dry),
        [format!("virga: would be placed on {node} (3 of 3 hosts fit)")]
    );
    assert_eq!(replica.scheduler.reservations(), 0);

    let mut kept = json(&instance("web"));
    kept["metadata"]["finalizers"] = json!(["example.com/mine"]);
    let placed = ask(kept, false).await;
    assert_eq!(patch(&placed)[0]["path"], "/spec/nodeName");
    assert_eq!(
        patch(&placed)[1],
        json!({"op": "add", "path": "/metadata/finalizers/-", "value": "virga.dev/agent"})
    );
    assert!(warnings(&placed).is_empty());
    assert_eq!(replica.scheduler.reservations(), 1);

    let mut elsewhere = instance("web-2");
    elsewhere.spec.placement = serde_json::from_value(json!({"availabilityZone": "mars"})).unwrap();
    let refused = ask(json(&elsewhere), false).await;
    assert_eq!(
        warnings(&refused),
        ["virga: no host yet: 0/3 hosts: 3 AvailabilityZoneFilter; it waits"]
    );
    let mut arm = image("arm");
    arm.spec.properties = [("hw_architecture".into(), "aarch64".into())].into();
    api.create(&arm);
    settle(&api).await;
    let mut on_arm = instance("web-3");
    on_arm.spec.image.as_mut().unwrap().name = "arm".into();
    let refused = ask(json(&on_arm), false).await;
    assert_eq!(
        warnings(&refused),
        ["virga: no host yet: 0/3 hosts: 3 ImagePropertiesFilter; it waits"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_bound_volume_takes_its_instance_to_its_node() {
    let api = api();
    stock(&api);
    for name in ["node-1", "node-2", "node-3"] {
        node(&api, name).await;
    }
    let mut bound = volume("data");
    bound.spec.node_name = Some("node-2".into());
    api.create(&bound);
    api.create(&volume("scratch"));
    let replica = Replica::start(&api, "a").await;
    replica.lead().await;
    let mut object = instance("web");
    object.spec.volumes = attach(&["data", "scratch"]);
    let answer = replica
        .ask("/schedule", &review("CREATE", "jane", Some(json(&object)), None))
        .await;
    assert_eq!(patch(&answer)[0]["value"], "node-2");
    // 5 GiB of root disk, 1 of the volume that comes with it, 1 of the volume that is there.
    assert_eq!(replica.scheduler.usage("node-2").disk_bytes, 7 << 30);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_review_or_too_large_is_refused_without_a_panic() {
    let api = api();
    let replica = Replica::start(&api, "a").await;
    for body in ["", "{}", "[]", "{\"request\": 1}", "\u{0}"] {
        for path in ["/validate", "/guard", "/schedule"] {
            assert_eq!(
                post(&replica.router, path, body.into()).await.0,
                StatusCode::BAD_REQUEST,
                "{path} {body}"
            );
        }
    }
    let huge = "x".repeat((1 << 20) + 1);
    assert_eq!(
        post(&replica.router, "/validate", huge).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let request = Request::get("/validate").body(Body::empty()).unwrap();
    assert_eq!(send(&replica.router, request).await.0, StatusCode::METHOD_NOT_ALLOWED);

    // What the schema lets through and we can't read is refused by /validate and passed over by the others.
    let mut odd = json(&instance("web"));
    odd["spec"]["powerState"] = "Levitating".into();
    let review = review("CREATE", "jane", Some(odd), None);
    assert_eq!(causes(&replica.ask("/validate", &review).await).0, 422);
    assert_eq!(patch(&replica.ask("/schedule", &review).await), json!([]));
}

/// A client of the fake whose tokens are reviewed: `agent-<node>` is an agent's, `robot` another's.
fn with_tokens(api: &FakeApi) -> Client {
    let inner = api.client_as(CONTROLLER);
    let service = tower::service_fn(move |request: http::Request<ClientBody>| {
        let inner = inner.clone();
        async move {
            if !request.uri().path().ends_with("/tokenreviews") {
                return inner.send(request).await;
            }
            let bytes = request.into_body().collect_bytes().await.unwrap();
            let mut review: TokenReview = serde_json::from_slice(&bytes).unwrap();
            let token = review.spec.token.clone().unwrap();
            let user = match token.strip_prefix("agent-") {
                Some(node) => UserInfo {
                    username: Some(AGENT.into()),
                    extra: Some([("authentication.kubernetes.io/node-name".into(), vec![node.to_owned()])].into()),
                    ..UserInfo::default()
                },
                None => UserInfo {
                    username: Some("robot".into()),
                    ..UserInfo::default()
                },
            };
            let authenticated = Some(token != "stolen");
            review.status = Some(TokenReviewStatus {
                authenticated,
                user: Some(user),
                ..TokenReviewStatus::default()
            });
            let body = serde_json::to_vec(&review).unwrap();
            Ok(http::Response::builder()
                .status(201)
                .body(ClientBody::from(body))
                .unwrap())
        }
    });
    Client::new(service, "default")
}

#[tokio::test(start_paused = true)]
async fn user_data_goes_to_the_agent_of_the_node_and_to_nobody_else() {
    let api = api();
    let mut object = instance("web");
    object.spec.node_name = Some("node-1".into());
    let reference = |key: &str| {
        let secret_ref = Some(SecretKeyRef {
            name: "init".into(),
            key: key.into(),
        });
        Some(UserData {
            inline: None,
            secret_ref,
        })
    };
    object.spec.user_data = reference("userData");
    api.create(&object);
    for (name, key) in [("no-key", "other"), ("large", "large")] {
        let mut object = instance(name);
        object.spec.node_name = Some("node-1".into());
        object.spec.user_data = reference(key);
        api.create(&object);
    }
    let mut plain = instance("plain");
    plain.spec.node_name = Some("node-1".into());
    api.create(&plain);
    let data = [
        ("userData".to_owned(), ByteString(b"#cloud-config".to_vec())),
        ("large".to_owned(), ByteString(vec![b'x'; 70_000])),
    ];
    let metadata = ObjectMeta {
        name: Some("init".into()),
        namespace: Some("shop".into()),
        ..ObjectMeta::default()
    };
    api.create(&Secret {
        metadata,
        data: Some(data.into()),
        ..Secret::default()
    });
    let replica = Replica::start_with(&api, with_tokens(&api), "a").await;

    let get = async |name: &str, token: Option<&str>| {
        let mut request = Request::get(format!("/userdata/shop/{name}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        send(&replica.router, request.body(Body::empty()).unwrap()).await
    };
    assert_eq!(
        get("web", Some("agent-node-1")).await,
        (StatusCode::OK, "#cloud-config".into())
    );
    let table = [
        ("web", None, StatusCode::UNAUTHORIZED, "a bearer token is needed"),
        (
            "web",
            Some("stolen"),
            StatusCode::UNAUTHORIZED,
            "the token is not valid",
        ),
        (
            "web",
            Some("robot"),
            StatusCode::FORBIDDEN,
            "robot is not an agent that runs on a node",
        ),
        (
            "web",
            Some("agent-node-2"),
            StatusCode::FORBIDDEN,
            "Instance shop/web is not bound to node node-2",
        ),
        (
            "gone",
            Some("agent-node-1"),
            StatusCode::FORBIDDEN,
            "Instance shop/gone is not bound to node node-1",
        ),
        (
            "plain",
            Some("agent-node-1"),
            StatusCode::NOT_FOUND,
            "Instance shop/plain names no Secret for this",
        ),
        (
            "no-key",
            Some("agent-node-1"),
            StatusCode::NOT_FOUND,
            "the Secret \"init\" has no key \"other\": add it, or name another",
        ),
        (
            "large",
            Some("agent-node-1"),
            StatusCode::PAYLOAD_TOO_LARGE,
            "the Secret \"init\" has more than 65536 bytes under \"large\": make it smaller",
        ),
    ];
    for (name, token, code, message) in table {
        assert_eq!(get(name, token).await, (code, message.to_owned()));
    }
    api.delete::<Secret>(Some("shop"), "init");
    let (code, message) = get("web", Some("agent-node-1")).await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    assert_eq!(message, "there is no Secret \"init\": create it");

    // A password comes the same way, for those who ask for one.
    let request = Request::get("/adminpassword/shop/web").header("authorization", "Bearer agent-node-1");
    let (code, message) = send(&replica.router, request.body(Body::empty()).unwrap()).await;
    assert_eq!(
        (code, message.as_str()),
        (StatusCode::NOT_FOUND, "Instance shop/web names no Secret for this")
    );

    // An agent may see a binding before we do.
    api.hold_watches();
    let mut early = object.clone();
    early.metadata.name = Some("early".into());
    api.create(&early);
    assert_eq!(
        get("early", Some("agent-node-1")).await.0,
        StatusCode::NOT_FOUND,
        "bound, and its Secret is gone"
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_s_key_is_signed_for_the_node_in_its_token_whatever_the_request_says() {
    let api = api();
    let replica = Replica::start_with(&api, with_tokens(&api), "a").await;
    let (own, other): (NodeName, NodeName) = ("node-1".parse().unwrap(), "node-2".parse().unwrap());
    let key = NodeKey::generate().unwrap();
    let ask = async |body: String, token: Option<&str>| {
        let mut request = Request::post("/certificate");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        send(&replica.router, request.body(Body::from(body)).unwrap()).await
    };
    let claim = key.request(&other).unwrap();
    let (code, message) = ask(claim.clone(), Some("agent-node-1")).await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE, "{message}");

    replica
        .signer
        .know(&Authorities::default().due(api.clock().now()).unwrap().unwrap());
    let (code, signed) = ask(claim.clone(), Some("agent-node-1")).await;
    assert_eq!(code, StatusCode::OK, "{signed}");
    let signed: Value = serde_json::from_str(&signed).unwrap();
    let certificate = signed["certificate"].as_str().unwrap();
    assert!(key.identity(&other, certificate).is_err(), "node-2 is not who asked");
    let identity = key.identity(&own, certificate).unwrap();
    Credentials::new(&identity, signed["authorities"].as_str().unwrap()).unwrap();

    for (token, code) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some("stolen"), StatusCode::UNAUTHORIZED),
        (Some("robot"), StatusCode::FORBIDDEN),
    ] {
        assert_eq!(ask(claim.clone(), token).await.0, code);
    }
    for body in ["", "no request", &"x".repeat(9000)] {
        let (code, _) = ask(body.to_owned(), Some("agent-node-1")).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{body:.20}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_migration_and_one_to_where_the_instance_is_are_refused() {
    let api = api();
    let mut object = instance("web");
    object.spec.node_name = Some("node-1".into());
    api.create(&object);
    let migration = |name: &str, of: &str, target: Option<&str>| {
        let spec = MigrationSpec {
            instance: of.into(),
            kind: MigrationType::Cold,
            target: target.map(str::to_owned),
        };
        let mut migration = Migration::new(name, spec);
        migration.metadata.namespace = Some("shop".into());
        migration
    };
    let replica = Replica::start(&api, "a").await;
    let ask = async |object: &Migration| {
        replica
            .ask("/validate", &review("CREATE", "op", Some(json(object)), None))
            .await
    };
    let here = ask(&migration("move", "web", Some("node-1"))).await;
    assert_eq!(
        causes(&here).1,
        ["spec.target: web is on this host already: name another, or none"]
    );
    let early = ask(&migration("move", "later", None)).await;
    assert_eq!(
        warnings(&early),
        ["spec.instance: there is no Instance \"later\" yet: it waits"]
    );

    api.create(&migration("move", "web", None));
    settle(&api).await;
    let second = ask(&migration("twice", "web", None)).await;
    assert_eq!(
        causes(&second).1,
        ["spec.instance: Migration move of web is under way: wait for its end, or delete it"]
    );
    let over = serde_json::json!({"phase": "Failed"});
    api.merge_status::<Migration>(Some("shop"), "move", over);
    settle(&api).await;
    let again = ask(&migration("again", "web", None)).await;
    assert_eq!(again["response"]["allowed"], true, "{again}");
}
