//! User data that is in a Secret, which only the controller can read.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, StatusCode},
    routing::get,
};
use k8s_openapi::api::core::v1::ConfigMap;
use virga_crds::{Instance, SecretKeyRef, UserData, conditions::types};

use crate::world::World;

/// A controller that knows the Secret of `web-1` once it `exists`. It speaks HTTP without TLS: certificates are
/// rustls' business.
pub fn controller(exists: &Arc<AtomicBool>) -> (tokio::runtime::Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let user_data = exists.clone();
    let answer = async move |Path((namespace, name)): Path<(String, String)>, headers: HeaderMap| {
        if headers
            .get("authorization")
            .is_none_or(|token| token != "Bearer the-agents-token")
        {
            return (StatusCode::UNAUTHORIZED, "who are you?".to_owned());
        }
        if (namespace.as_str(), name.as_str()) != ("shop", "web-1") || !user_data.load(Ordering::SeqCst) {
            return (StatusCode::NOT_FOUND, "there is no Secret \"web-init\"".to_owned());
        }
        (StatusCode::OK, "#!/bin/sh\necho from a secret\n".to_owned())
    };
    let password = {
        let exists = exists.clone();
        async move || {
            if exists.load(Ordering::SeqCst) {
                (StatusCode::OK, "correct horse")
            } else {
                (StatusCode::NOT_FOUND, "there is no Secret \"web-admin\"")
            }
        }
    };
    let router = Router::new()
        .route("/userdata/{namespace}/{name}", get(answer))
        .route("/adminpassword/shop/web-1", get(password));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, router).await });
    (runtime, address)
}

pub fn publish_authority(world: &World) {
    let key = rcgen::generate_simple_self_signed(["virga-controller.virga-system.svc".to_owned()]).unwrap();
    let mut map = ConfigMap::default();
    map.metadata.name = Some("virga-ca".into());
    map.metadata.namespace = Some("virga-system".into());
    map.data = Some([("ca.crt".to_owned(), key.cert.pem())].into());
    world.api.create(&map);
}

#[test]
fn user_data_comes_from_the_controller_when_its_secret_exists() {
    let exists = Arc::new(AtomicBool::new(false));
    let (runtime, address) = controller(&exists);
    let mut world = World::new();
    publish_authority(&world);
    std::fs::write(world.path().join("token"), "the-agents-token\n").unwrap();
    world.start_with(|options| options.controller_url = Some(format!("http://{address}/")));
    let instance = world.instance("web-1", |spec| {
        spec.interfaces.clear();
        spec.user_data = Some(UserData {
            inline: None,
            secret_ref: Some(SecretKeyRef {
                name: "web-init".into(),
                key: "userData".into(),
            }),
        });
    });
    let storage = world.await_reason("web-1", types::STORAGE_READY, "UserDataNotFound");
    assert!(storage.message.contains("web-init"), "{}", storage.message);
    assert!(world.domain(&instance).is_none());

    exists.store(true, Ordering::SeqCst);
    world.await_ready("web-1");
    let seed = std::fs::read(world.files(&instance).join("seed.iso")).unwrap();
    let text = b"echo from a secret";
    assert!(seed.windows(text.len()).any(|window| window == text));
    world.delete("web-1");
    world.await_gone::<Instance>("web-1");
    runtime.shutdown_background();
}
