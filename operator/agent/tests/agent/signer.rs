//! A controller that signs nodes' keys. It speaks HTTP without TLS: certificates are rustls' business.

use std::{net::SocketAddr, sync::Arc};

use axum::{Json, Router, http::HeaderMap, routing::post};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use virga_agent::Options;
use virga_transfer::certificate::{Validity, issue};

use crate::world::World;

/// Signs for whoever names a node in its token.
pub struct Signer {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Signer {
    /// One whose authority the agents of this cluster know.
    pub fn start(world: &World) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut map = ConfigMap::default();
        map.metadata.name = Some("virga-ca".into());
        map.metadata.namespace = Some("virga-system".into());
        map.data = Some([("ca.crt".to_owned(), authority.pem())].into());
        world.api.create(&map);
        let authority = Arc::new(authority);
        let sign = async move |headers: HeaderMap, request: String| -> Json<Value> {
            let token = headers["authorization"].to_str().unwrap();
            let node = token.strip_prefix("Bearer agent-of-").unwrap().parse().unwrap();
            let hour = SignedDuration::from_hours(1);
            let validity = Validity {
                not_before: Timestamp::now() - hour,
                not_after: Timestamp::now() + hour * 24,
            };
            let certificate = issue(&request, &node, &authority, validity).unwrap();
            Json(json!({"certificate": certificate, "authorities": authority.pem()}))
        };
        let router = Router::new().route("/certificate", post(sign));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            address,
            _runtime: runtime,
        }
    }

    /// Starts an agent that asks here for its certificate.
    pub fn start_agent(&self, world: &mut World) {
        self.start_agent_with(world, |_| {});
    }

    pub fn start_agent_with(&self, world: &mut World, change: impl FnOnce(&mut Options)) {
        std::fs::write(world.path().join("token"), format!("agent-of-{}\n", world.node)).unwrap();
        let url = format!("http://{}", self.address);
        world.start_with(|options| {
            options.controller_url = Some(url);
            change(options);
        });
    }
}
