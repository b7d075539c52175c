//! How do clients know that they talk to us? The process is its own certificate authority.
//!
//! Any replica may make and rotate the authority, and publish it: all write the same from the same Secret, each write
//! carries the version that was read, and who was slower follows. So the webhooks work before there is a leader, and a
//! chart upgrade that resets a `caBundle` is mended at once by whoever sees it first.

mod authority;
mod publish;
mod signer;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub use authority::{AUTHORITY_LIFE, Authorities, Error as AuthorityError, LEAF_LIFE, Leaf, OVERLAP, RENEW_BEFORE};
use axum_server::tls_rustls::RustlsConfig;
use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        core::v1::{ConfigMap, Secret},
    },
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    runtime::{reflector::Store, watcher},
};
use publish::Publisher;
use rustls::ServerConfig;
pub use signer::{Error as SignError, Signed, Signer};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use virga_crds::managers;
use virga_runtime::{
    class::chain,
    clock::Clock,
    health::Check,
    watch::{Watch, ready},
};

/// The Secret that holds the authorities.
pub const SECRET: &str = "virga-webhook-ca";
/// The ConfigMap that agents read the trusted certificates from, under [`CONFIG_MAP_KEY`].
pub const CONFIG_MAP: &str = "virga-ca";
/// The key of the trusted certificates, PEM.
pub const CONFIG_MAP_KEY: &str = "ca.crt";
const SECRET_KEY: &str = "authorities.json";
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The wall clock is looked at this often: a timer alone does not notice that the host was suspended.
const CLOCK_CHECK: Duration = Duration::from_mins(1);
const RETRY: Duration = Duration::from_secs(2);

/// What the certificates are for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The namespace of the Secret, the ConfigMap and the Services.
    pub namespace: String,
    /// The Services that reach this server.
    pub services: Vec<String>,
    /// The name of both webhook configurations.
    pub webhook_configuration: String,
}

/// Why the certificates are not as they should be.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("{what}")]
    Api {
        what: &'static str,
        source: Box<kube::Error>,
    },
    #[error("{what}: no answer within {} s", CALL_TIMEOUT.as_secs())]
    TimedOut { what: &'static str },
}

impl Error {
    /// Whether another replica was faster: its write is on its way to our watch.
    fn is_behind(&self) -> bool {
        match self {
            Self::Api { source, .. } => matches!(source.as_ref(), kube::Error::Api(status) if status.code == 409),
            Self::Authority(_) | Self::TimedOut { .. } => false,
        }
    }
}

/// Keeps the certificates of one process, and the trust in them.
pub struct Keeper {
    client: Client,
    clock: Arc<dyn Clock>,
    options: Options,
    server: RustlsConfig,
    signer: Signer,
    leaf: Option<Leaf>,
    secret: Store<Secret>,
    config_map: Store<ConfigMap>,
    validating: Store<ValidatingWebhookConfiguration>,
    mutating: Store<MutatingWebhookConfiguration>,
    watches: Option<Watches>,
}

struct Watches {
    secret: Watch<Secret>,
    config_map: Watch<ConfigMap>,
    validating: Watch<ValidatingWebhookConfiguration>,
    mutating: Watch<MutatingWebhookConfiguration>,
}

/// A server configuration that answers no handshake, until there is a certificate.
fn without_certificate() -> RustlsConfig {
    #[derive(Debug)]
    struct Nothing;
    impl rustls::server::ResolvesServerCert for Nothing {
        fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
            None
        }
    }
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Nothing));
    RustlsConfig::from_config(Arc::new(config))
}

impl Keeper {
    /// A keeper that has done nothing yet. The process's TLS provider must have been installed.
    pub fn new(client: Client, clock: Arc<dyn Clock>, options: Options) -> Self {
        let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let watches = Watches {
            secret: Watch::within(client.clone(), &options.namespace, named(SECRET)),
            config_map: Watch::within(client.clone(), &options.namespace, named(CONFIG_MAP)),
            validating: Watch::all(client.clone(), named(&options.webhook_configuration)),
            mutating: Watch::all(client.clone(), named(&options.webhook_configuration)),
        };
        Self {
            client,
            signer: Signer::new(clock.clone()),
            clock,
            options,
            server: without_certificate(),
            leaf: None,
            secret: watches.secret.store(),
            config_map: watches.config_map.store(),
            validating: watches.validating.store(),
            mutating: watches.mutating.store(),
            watches: Some(watches),
        }
    }

    /// The configuration of the server, kept up to date while [`Self::run`] runs.
    pub fn server(&self) -> RustlsConfig {
        self.server.clone()
    }

    /// What signs nodes' certificates, kept up to date as well.
    pub fn signer(&self) -> Signer {
        self.signer.clone()
    }

    /// Keeps all up to date until `stop` is cancelled. `check` passes once everything was right for the first time.
    pub async fn run(mut self, check: Check, stop: CancellationToken) {
        let Some(watches) = self.watches.take() else { return };
        let mut changes = changes(&watches);
        let Watches {
            secret,
            config_map,
            validating,
            mutating,
        } = watches;
        let running = [
            tokio::spawn(secret.run(stop.clone())),
            tokio::spawn(config_map.run(stop.clone())),
            tokio::spawn(validating.run(stop.clone())),
            tokio::spawn(mutating.run(stop.clone())),
        ];
        let synced = async {
            ready(&self.secret).await
                && ready(&self.config_map).await
                && ready(&self.validating).await
                && ready(&self.mutating).await
        };
        if tokio::select! { synced = synced => synced, () = stop.cancelled() => false } {
            self.keep(&mut changes, &check, &stop).await;
        }
        for watch in running {
            // A watch that panicked has already said so.
            let _ = watch.await;
        }
    }

    async fn keep(&mut self, changes: &mut (impl Stream<Item = ()> + Unpin), check: &Check, stop: &CancellationToken) {
        let mut next = Timestamp::MIN;
        let mut was_right = false;
        loop {
            let wait = match self.pass().await {
                Ok(due) => {
                    check.pass();
                    was_right = true;
                    next = due;
                    CLOCK_CHECK
                }
                Err(error) if error.is_behind() => RETRY,
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(error, "keeping the webhook certificates");
                    // Later on, what is in use goes on to work while the API server can't be reached.
                    if !was_right {
                        check.fail(error);
                    }
                    RETRY
                }
            };
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    change = changes.next() => if change.is_none() { return },
                    () = tokio::time::sleep(wait) => if wait == CLOCK_CHECK && self.clock.now() < next { continue },
                }
                break;
            }
        }
    }

    /// Looks at everything once, writes what differs, and tells when to look again if nothing changes before.
    async fn pass(&mut self) -> Result<Timestamp, Error> {
        let now = self.clock.now();
        let authorities = self.authorities(now).await?;
        self.signer.know(&authorities);
        if let Some(leaf) = authorities.leaf(self.leaf.as_ref(), &self.dns_names(), now)? {
            self.serve(leaf)?;
        }
        let bundle = authorities.bundle(now);
        let publisher = Publisher {
            client: &self.client,
            options: &self.options,
            bundle: &bundle,
        };
        publisher
            .to_agents(self.config_map.state().first().map(Arc::as_ref))
            .await?;
        for configuration in self.validating.state() {
            let hooks = configuration.webhooks.iter().flatten();
            let hooks = hooks.map(|hook| (hook.name.as_str(), &hook.client_config));
            publisher.to_webhooks(configuration.as_ref(), hooks).await?;
        }
        for configuration in self.mutating.state() {
            let hooks = configuration.webhooks.iter().flatten();
            let hooks = hooks.map(|hook| (hook.name.as_str(), &hook.client_config));
            publisher.to_webhooks(configuration.as_ref(), hooks).await?;
        }
        Ok(self.leaf.as_ref().map_or(now, |leaf| authorities.next_due(leaf, now)))
    }

    /// The list of authorities, made or changed in the Secret when that is due.
    async fn authorities(&self, now: Timestamp) -> Result<Authorities, Error> {
        let secret = self.secret.state().into_iter().next();
        let present = match &secret {
            Some(secret) => {
                let bytes = secret.data.as_ref().and_then(|data| data.get(SECRET_KEY));
                Authorities::parse(bytes.map_or(&[][..], |bytes| &bytes.0))?
            }
            None => Authorities::default(),
        };
        let Some(wanted) = present.due(now)? else {
            return Ok(present);
        };
        let api = Api::<Secret>::namespaced(self.client.clone(), &self.options.namespace);
        let params = PostParams {
            field_manager: Some(managers::CONTROLLER.into()),
            ..PostParams::default()
        };
        let data = BTreeMap::from([(SECRET_KEY.to_owned(), ByteString(wanted.encode()?))]);
        let (what, written) = if let Some(secret) = secret {
            let secret = Secret {
                data: Some(data),
                ..Secret::clone(&secret)
            };
            // It carries the resourceVersion that was read: a replica that was faster makes this fail.
            let call = api.replace(SECRET, &params, &secret);
            ("rotating the certificate authority", within(call).await)
        } else {
            let metadata = ObjectMeta {
                name: Some(SECRET.into()),
                ..ObjectMeta::default()
            };
            let secret = Secret {
                metadata,
                data: Some(data),
                ..Secret::default()
            };
            let call = api.create(&params, &secret);
            ("making the certificate authority", within(call).await)
        };
        match written {
            Some(Ok(_)) => {
                tracing::info!(secret = SECRET, "{what}");
                Ok(wanted)
            }
            // A conflict, too: the pass is tried again with what the faster replica wrote.
            Some(Err(source)) => Err(Error::Api {
                what,
                source: Box::new(source),
            }),
            None => Err(Error::TimedOut { what }),
        }
    }

    fn dns_names(&self) -> Vec<String> {
        let namespace = &self.options.namespace;
        self.options
            .services
            .iter()
            .map(|service| format!("{service}.{namespace}.svc"))
            .collect()
    }

    fn serve(&mut self, leaf: Leaf) -> Result<(), AuthorityError> {
        let config = ServerConfig::builder().with_no_client_auth();
        let mut config = config.with_single_cert(leaf.chain.clone(), leaf.key.clone_key())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        self.server.reload_from_config(Arc::new(config));
        tracing::info!(signer = leaf.signer, renew_at = %leaf.renew_at, "serving a new certificate");
        self.leaf = Some(leaf);
        Ok(())
    }
}

async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Option<kube::Result<T>> {
    timeout(CALL_TIMEOUT, call).await.ok()
}

/// Something of what we look at has changed.
fn changes(watches: &Watches) -> impl Stream<Item = ()> + Unpin + use<> {
    stream::select_all([
        watches.secret.changes().map(drop).boxed(),
        watches.config_map.changes().map(drop).boxed(),
        watches.validating.changes().map(drop).boxed(),
        watches.mutating.changes().map(drop).boxed(),
    ])
}
