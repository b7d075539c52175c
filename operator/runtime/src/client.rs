//! How does it talk to the API server? One client per process, with a bound on everything.
//!
//! kube's own defaults have no time-out for an answer, and retry 15 times with pauses of up to 1000 s. Here a call that
//! is not a watch is answered in full, or fails, within [`Options::request_timeout`], retries included. A watch must
//! only begin within it; afterwards kube's watcher notices silence by itself.

use std::{
    path::PathBuf,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Either, Full};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, retry::RetryPolicy},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tower::{BoxError, Layer, Service, buffer::BufferLayer, retry::RetryLayer};

/// How to connect.
#[derive(Debug, Clone)]
pub struct Options {
    /// The kubeconfig; `None`: the pod's service account, else what kubectl would use.
    pub kubeconfig: Option<PathBuf>,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long a call may take, retries included. Watches are exempt once they have begun.
    pub request_timeout: Duration,
    /// Who we are in the API server's audit log, such as `virga-agent/0.1.0`.
    pub user_agent: String,
}

impl Options {
    /// 5 s to connect, 15 s for a call.
    pub fn new(user_agent: impl Into<String>) -> Self {
        Self {
            kubeconfig: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(15),
            user_agent: user_agent.into(),
        }
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig cannot be used.
    #[error("reading the kubeconfig {}", path.display())]
    Kubeconfig {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// Neither a service account nor a kubeconfig was found.
    #[error("finding the cluster")]
    Infer(#[source] Box<kube::config::InferConfigError>),
    /// The name cannot stand in a header.
    #[error("using the user agent {0:?}")]
    UserAgent(String, #[source] header::InvalidHeaderValue),
    /// The client cannot be made from its configuration.
    #[error("building the client")]
    Build(#[source] Box<kube::Error>),
}

/// A call took too long.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {} s", limit.as_secs_f32())]
pub struct TimedOut {
    limit: Duration,
}

/// Connects by these options. Nothing is sent yet.
pub async fn connect(options: Options) -> Result<Client, Error> {
    let Options {
        kubeconfig,
        connect_timeout,
        request_timeout,
        user_agent,
    } = options;
    let mut config = match kubeconfig {
        Some(path) => match from_file(&path).await {
            Ok(config) => config,
            Err(source) => {
                return Err(Error::Kubeconfig {
                    path,
                    source: Box::new(source),
                });
            }
        },
        None => match Config::incluster() {
            Ok(config) => config,
            Err(_) => Config::infer().await.map_err(|source| Error::Infer(Box::new(source)))?,
        },
    };
    let agent = HeaderValue::from_str(&user_agent).map_err(|source| Error::UserAgent(user_agent, source))?;
    config.headers.push((header::USER_AGENT, agent));
    config.connect_timeout = Some(connect_timeout);
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config).map_err(|source| Error::Build(Box::new(source)))?;
    Ok(bounded(builder, request_timeout).build())
}

async fn from_file(path: &std::path::Path) -> Result<Config, KubeconfigError> {
    Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await
}

/// Puts our time-out and retries around a service.
fn bounded<S, B>(
    builder: ClientBuilder<S>,
    limit: Duration,
) -> ClientBuilder<impl Service<Request<Body>, Response = Response<Answer<B>>, Error = BoxError, Future: Send> + Send>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError, Future: Send> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    // 429, 503 and 504, three times, honouring Retry-After; the limit around it cuts a server that asks for too much.
    let retries = RetryPolicy::new(Duration::from_millis(200), Duration::from_secs(2), 3, true)
        .unwrap_or_else(|_| RetryPolicy::default());
    builder
        .with_layer(&BufferLayer::new(1024))
        .with_layer(&RetryLayer::new(retries))
        .with_layer(&DeadlineLayer { limit })
}

type Answer<B> = Either<Full<Bytes>, B>;

#[derive(Debug, Clone)]
struct DeadlineLayer {
    limit: Duration,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline {
            inner,
            limit: self.limit,
        }
    }
}

/// Ends a call that takes longer than `limit`, and reads the whole answer inside it unless the answer is a stream.
struct Deadline<S> {
    inner: S,
    limit: Duration,
}

impl<S, B> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError, Future: Send + 'static>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Answer<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let streams = is_stream(&request);
        let answer = self.inner.call(request);
        let limit = self.limit;
        Box::pin(async move {
            let whole = async {
                let (parts, body) = answer.await?.into_parts();
                if streams {
                    return Ok(Response::from_parts(parts, Either::Right(body)));
                }
                let bytes = body.collect().await.map_err(Into::into)?.to_bytes();
                Ok(Response::from_parts(parts, Either::Left(Full::new(bytes))))
            };
            tokio::time::timeout(limit, whole)
                .await
                .unwrap_or_else(|_| Err(TimedOut { limit }.into()))
        })
    }
}

fn is_stream(request: &Request<Body>) -> bool {
    let watches = request
        .uri()
        .query()
        .is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
    watches || request.headers().contains_key(header::UPGRADE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Node;
    use kube::{Api, api::ListParams};
    use tokio::time::Instant;
    use virga_testkit::{FakeApi, Fault};

    fn client(api: &FakeApi) -> Client {
        let service = tower::ServiceExt::map_err(api.service(), BoxError::from);
        bounded(ClientBuilder::new(service, "default"), Duration::from_secs(15)).build()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends_at_the_limit() {
        let api = FakeApi::new();
        api.inject(Fault::hang().resource("nodes"));
        let begun = Instant::now();
        let error = Api::<Node>::all(client(&api)).get("n1").await.unwrap_err();
        assert_eq!(begun.elapsed(), Duration::from_secs(15));
        assert!(
            crate::class::chain(&error).contains("did not answer within 15 s"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_server_is_asked_again_a_few_times() {
        let api = FakeApi::new();
        api.inject(Fault::status(503).resource("nodes").times(2));
        let nodes = Api::<Node>::all(client(&api));
        assert!(nodes.list(&ListParams::default()).await.unwrap().items.is_empty());
        assert_eq!(api.log().len(), 3);

        api.inject(Fault::status(429).resource("nodes"));
        assert!(nodes.list(&ListParams::default()).await.is_err());
        assert_eq!(api.log().len(), 3 + 4, "one call and three retries");
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let options = Options {
            kubeconfig: Some("/no/such/file".into()),
            ..Options::new("virga-test/0")
        };
        let error = connect(options).await.err().unwrap();
        assert_eq!(error.to_string(), "reading the kubeconfig /no/such/file");
    }
}
