//! The process is its own certificate authority: one authority for all replicas, trusted before it signs.

use std::{collections::BTreeSet, net::TcpListener, sync::Arc, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{
            MutatingWebhook, MutatingWebhookConfiguration, ServiceReference, ValidatingWebhook,
            ValidatingWebhookConfiguration, WebhookClientConfig,
        },
        core::v1::{ConfigMap, Secret},
    },
};
use kube::api::ObjectMeta;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use virga_controller::{
    certs::{CONFIG_MAP, CONFIG_MAP_KEY, Keeper, Options, SECRET},
    webhook,
};
use virga_runtime::{clock::SystemClock, health::Health};
use virga_testkit::{FakeApi, Fault, Verb};

use crate::harness::CONTROLLER;

fn api() -> FakeApi {
    virga_runtime::tls::install_crypto_provider();
    FakeApi::new()
        .with::<ValidatingWebhookConfiguration>()
        .with::<MutatingWebhookConfiguration>()
}

fn options() -> Options {
    Options {
        namespace: "virga-system".into(),
        services: vec!["virga-webhook".into(), "virga-webhook-leader".into()],
        webhook_configuration: "virga".into(),
    }
}

fn calls(service: &str) -> WebhookClientConfig {
    let service = ServiceReference {
        name: service.into(),
        namespace: "virga-system".into(),
        ..ServiceReference::default()
    };
    WebhookClientConfig {
        service: Some(service),
        ..WebhookClientConfig::default()
    }
}

fn install(api: &FakeApi) {
    let metadata = || ObjectMeta {
        name: Some("virga".into()),
        ..ObjectMeta::default()
    };
    let hook = |name: &str, service: &str| ValidatingWebhook {
        name: name.into(),
        client_config: calls(service),
        ..ValidatingWebhook::default()
    };
    let webhooks = vec![
        hook("other.example.com", "other"),
        hook("validate.virga.dev", "virga-webhook"),
    ];
    api.create(&ValidatingWebhookConfiguration {
        metadata: metadata(),
        webhooks: Some(webhooks),
    });
    let hook = MutatingWebhook {
        name: "schedule.virga.dev".into(),
        client_config: calls("virga-webhook-leader"),
        ..MutatingWebhook::default()
    };
    api.create(&MutatingWebhookConfiguration {
        metadata: metadata(),
        webhooks: Some(vec![hook]),
    });
}

/// Each webhook with what it trusts.
fn trusted(api: &FakeApi) -> Vec<(String, Option<ByteString>)> {
    let validating: ValidatingWebhookConfiguration = api.read(None, "virga").unwrap();
    let mutating: MutatingWebhookConfiguration = api.read(None, "virga").unwrap();
    let validating = validating
        .webhooks
        .unwrap()
        .into_iter()
        .map(|hook| (hook.name, hook.client_config.ca_bundle));
    validating
        .chain(
            mutating
                .webhooks
                .unwrap()
                .into_iter()
                .map(|hook| (hook.name, hook.client_config.ca_bundle)),
        )
        .collect()
}

fn for_agents(api: &FakeApi) -> String {
    let map: ConfigMap = api.read(Some("virga-system"), CONFIG_MAP).unwrap();
    map.data.unwrap()[CONFIG_MAP_KEY].clone()
}

fn start(api: &FakeApi, health: &Health) -> (axum_server::tls_rustls::RustlsConfig, CancellationToken) {
    let keeper = Keeper::new(api.client_as(CONTROLLER), Arc::new(api.clock().reader()), options());
    let (server, stop) = (keeper.server(), CancellationToken::new());
    tokio::spawn(keeper.run(health.readiness("certificates"), stop.clone()));
    (server, stop)
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn replicas_that_start_together_end_with_one_authority_that_all_trust() {
    let api = api();
    install(&api);
    // Both look before either has written.
    api.inject(
        Fault::delay(Duration::from_millis(300))
            .resource("secrets")
            .verb(Verb::Create),
    );
    let health = [Health::new(), Health::new(), Health::new()];
    for health in &health {
        start(&api, health);
    }
    settle().await;
    assert!(health.iter().all(Health::is_ready));
    let bundle = for_agents(&api);
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 1);
    assert_eq!(
        trusted(&api),
        [
            ("other.example.com".to_owned(), None),
            (
                "validate.virga.dev".to_owned(),
                Some(ByteString(bundle.clone().into_bytes()))
            ),
            ("schedule.virga.dev".to_owned(), Some(ByteString(bundle.into_bytes()))),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_an_upgrade_resets_is_mended_and_otherwise_nothing_is_sent() {
    let api = api();
    install(&api);
    let health = Health::new();
    start(&api, &health);
    settle().await;
    let before = trusted(&api);
    let hooks = json!({"webhooks": [{"name": "schedule.virga.dev", "clientConfig": calls("virga-webhook-leader")}]});
    api.merge::<MutatingWebhookConfiguration>(None, "virga", hooks);
    api.merge::<ConfigMap>(
        Some("virga-system"),
        CONFIG_MAP,
        json!({"data": {CONFIG_MAP_KEY: "nonsense"}}),
    );
    settle().await;
    assert_eq!(trusted(&api), before);
    assert!(for_agents(&api).starts_with("-----BEGIN CERTIFICATE-----"));

    let mark = api.mark();
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(api.requests_since(mark).len(), 0, "{}", api.story());
}

#[tokio::test(start_paused = true)]
async fn a_new_authority_is_trusted_a_day_before_it_signs_and_the_old_one_until_its_end() {
    let api = api();
    install(&api);
    let health = Health::new();
    let (server, _stop) = start(&api, &health);
    settle().await;
    let first = for_agents(&api);
    let leaf = |server: &axum_server::tls_rustls::RustlsConfig| Arc::as_ptr(&server.get_inner()) as usize;
    let mut leaves = BTreeSet::from([leaf(&server)]);

    // The wall clock jumps, as after a host was suspended: it is noticed within a minute.
    api.clock().jump(SignedDuration::from_hours(24 * 121));
    tokio::time::sleep(Duration::from_secs(70)).await;
    let both = for_agents(&api);
    assert!(
        both.starts_with(&first) && both.matches("BEGIN CERTIFICATE").count() == 2,
        "{both}"
    );
    assert!(
        trusted(&api)[1]
            .1
            .as_ref()
            .is_some_and(|bundle| bundle.0 == both.as_bytes())
    );
    assert!(leaves.insert(leaf(&server)), "the leaf had ended");

    api.clock().jump(SignedDuration::from_hours(25));
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(for_agents(&api), both);
    assert!(leaves.insert(leaf(&server)), "the new authority signs");

    api.clock().jump(SignedDuration::from_hours(24 * 60));
    tokio::time::sleep(Duration::from_secs(70)).await;
    let second = for_agents(&api);
    assert_eq!(both, format!("{first}{second}"), "the old one has ended");
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_read_is_not_overwritten_and_the_cure_is_told() {
    let api = api();
    let metadata = ObjectMeta {
        name: Some(SECRET.into()),
        namespace: Some("virga-system".into()),
        ..ObjectMeta::default()
    };
    let data = [("authorities.json".to_owned(), ByteString(b"[]broken".to_vec()))];
    api.create(&Secret {
        metadata,
        data: Some(data.into()),
        ..Secret::default()
    });
    let health = Health::new();
    start(&api, &health);
    settle().await;
    assert!(!health.is_ready());
    let writes: Vec<_> = api.writes_to("secrets", Some("virga-system"), SECRET);
    assert!(writes.is_empty());
    api.delete::<Secret>(Some("virga-system"), SECRET);
    settle().await;
    assert!(health.is_ready());
}

#[tokio::test]
async fn the_server_speaks_tls_to_who_trusts_the_bundle_and_closes_each_connection() {
    let api = api();
    let health = Health::new();
    let keeper = Keeper::new(api.client_as(CONTROLLER), Arc::new(SystemClock), options());
    let stop = CancellationToken::new();
    // A free port, which nobody takes in between on a machine that runs tests.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let router = axum::Router::new().route("/", axum::routing::get(async || "yes"));
    let serving = tokio::spawn(webhook::serve(address, keeper.server(), router, stop.clone()));
    tokio::spawn(keeper.run(health.readiness("certificates"), stop.clone()));
    let there = |map: Option<&ConfigMap>| map.is_some();
    api.await_condition::<ConfigMap>(Some("virga-system"), CONFIG_MAP, there)
        .await;

    let root = reqwest::Certificate::from_pem(for_agents(&api).as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([root])
        .resolve("virga-webhook.virga-system.svc", address)
        .resolve("virga-webhook-leader.virga-system.svc", address)
        .resolve("elsewhere.virga-system.svc", address)
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap();
    let url = |host: &str| format!("https://{host}.virga-system.svc:{}/", address.port());
    for host in ["virga-webhook", "virga-webhook-leader"] {
        let answer = client.get(url(host)).send().await.unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_11);
        assert_eq!(
            answer.headers()["connection"],
            "close",
            "a kept connection would go on to ask an old leader"
        );
        assert_eq!(answer.text().await.unwrap(), "yes");
    }
    assert!(
        client.get(url("elsewhere")).send().await.is_err(),
        "not one of our names"
    );
    let stranger = reqwest::Client::builder()
        .tls_certs_only([])
        .resolve("virga-webhook.virga-system.svc", address);
    assert!(
        stranger
            .build()
            .unwrap()
            .get(url("virga-webhook"))
            .send()
            .await
            .is_err()
    );
    stop.cancel();
    serving.await.unwrap().unwrap();
}
