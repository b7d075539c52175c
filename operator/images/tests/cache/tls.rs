//! Downloads over TLS, from a server with a CA of its own.

use std::net::{Ipv4Addr, TcpListener};

use axum::{Router, routing::get};
use axum_server::tls_rustls::RustlsConfig;
use virga_images::{
    Digest,
    cache::{Cache, Error, Limits, Options, Request, Source},
};

use crate::{
    bench::end,
    origin::{disk, install_tls_provider, options},
};

#[tokio::test]
async fn a_server_is_trusted_by_the_configured_ca_and_not_without_it() {
    install_tls_provider();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = certified.cert.pem().into_bytes();
    let config = RustlsConfig::from_pem(certificate.clone(), certified.signing_key.serialize_pem().into_bytes());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("https://localhost:{}/image", listener.local_addr().unwrap().port());
    let content = disk(100_000, 1);
    let body = content.clone();
    let router = Router::new().route("/image", get(async move || body));
    let server = axum_server::from_tcp_rustls(listener, config.await.unwrap()).unwrap();
    tokio::spawn(server.serve(router.into_make_service()));

    let request = Request {
        key: "image-1".to_owned(),
        source: Source::Http { url },
        sha256: Some(Digest::of(&content)),
        format: None,
        limits: Limits::default(),
    };
    for (ca_certificates, trusted) in [(certificate, true), (Vec::new(), false)] {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            ca_certificates,
            attempts: 1,
            ..options()
        };
        let cache = Cache::open(directory.path(), options).await.unwrap();
        let outcome = end(cache.ensure(request.clone())).await;
        if trusted {
            assert_eq!(outcome.unwrap().digest, Digest::of(&content));
        } else {
            let error = outcome.unwrap_err();
            let reason = "invalid peer certificate";
            assert!(
                matches!(&error, Error::Unreachable { reason: r, .. } if r.contains(reason)),
                "{error:?}"
            );
        }
    }
}
