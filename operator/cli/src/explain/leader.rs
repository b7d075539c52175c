//! What does the leading controller remember? It is asked through the API server, by a port-forward to its Pod.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, Client, client::UpgradeConnectionError};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use virga_controller::{
    debug::{Decisions, Trouble},
    leader::LEASE,
    scheduling::record::Recorded,
};
use virga_runtime::class::chain;

use super::System;

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(15);
/// More than the leader ever answers.
const MOST_BYTES: usize = 8 << 20;
/// A candidate's name is its Pod's, a dash and this many digits.
const DIGITS: usize = 8;

/// Why the leader was not asked, or did not answer. Each completes the sentence "not from the leading controller: …".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Lease or the Pod is out of the user's reach.
    #[error("you may not {0}")]
    Forbidden(&'static str),
    /// There is no leader.
    #[error("nobody leads in namespace {0}")]
    NoLeader(String),
    /// It can't be reached.
    #[error("{what}: {why}")]
    Unreachable {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        why: String,
    },
    /// It said something else.
    #[error("its Pod {pod} says: {message}")]
    Answer {
        /// The Pod.
        pod: String,
        /// Its words.
        message: String,
    },
    /// It took too long.
    #[error("no answer within {} s", LIMIT.as_secs())]
    TimedOut,
}

/// The decisions for an Instance that the leader keeps, newest first.
pub(super) async fn decisions(
    client: &Client,
    system: &System,
    namespace: &str,
    name: &str,
) -> Result<Vec<Recorded>, Error> {
    timeout(LIMIT, ask(client, system, namespace, name))
        .await
        .unwrap_or(Err(Error::TimedOut))
}

async fn ask(client: &Client, system: &System, namespace: &str, name: &str) -> Result<Vec<Recorded>, Error> {
    let pod = leader(client, &system.namespace).await?;
    let pods = Api::<Pod>::namespaced(client.clone(), &system.namespace);
    let unreachable = |why: String| Error::Unreachable {
        what: "forwarding a port to the leader's Pod",
        why,
    };
    let mut forwarder = pods
        .portforward(&pod, &[system.port])
        .await
        .map_err(|error| match &error {
            kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code))
                if code.as_u16() == StatusCode::FORBIDDEN.as_u16() =>
            {
                Error::Forbidden("forward ports to its Pod")
            }
            _ => unreachable(chain(&error)),
        })?;
    let (stream, refused) = (forwarder.take_stream(system.port), forwarder.take_error(system.port));
    let stream = stream.ok_or_else(|| unreachable("no stream".into()))?;
    let path = format!("/decisions/{namespace}/{name}");
    let refused = async { refused?.await };
    let answer = tokio::select! {
        biased;
        // What the Pod's node says is better than that the connection was closed, if it ever is.
        Some(why) = refused => Err(unreachable(why)),
        answer = fetch(stream, &pod, &path) => answer,
    };
    forwarder.abort();
    answer
}

/// The leader's Pod, by the Lease.
async fn leader(client: &Client, namespace: &str) -> Result<String, Error> {
    let lease = match Api::<Lease>::namespaced(client.clone(), namespace).get_opt(LEASE).await {
        Ok(lease) => lease,
        Err(kube::Error::Api(status)) if status.code == 403 => {
            return Err(Error::Forbidden("read the Lease that says who leads"));
        }
        Err(error) => {
            return Err(Error::Unreachable {
                what: "asking who leads",
                why: chain(&error),
            });
        }
    };
    let holder = lease.and_then(|lease| lease.spec?.holder_identity);
    holder
        .as_deref()
        .and_then(pod_of)
        .map(str::to_owned)
        .ok_or_else(|| Error::NoLeader(namespace.to_owned()))
}

/// The Pod of a candidate.
fn pod_of(holder: &str) -> Option<&str> {
    let (pod, digits) = holder.rsplit_once('-')?;
    let is_mark = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_mark && !pod.is_empty()).then_some(pod)
}

/// One request over a connection that is there.
async fn fetch<S>(stream: S, pod: &str, path: &str) -> Result<Vec<Recorded>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |why: String| Error::Unreachable {
        what: "asking the leader",
        why,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(chain(&error)))?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(chain(&error)))?;
    let response = sender.send_request(request).await;
    let (head, body) = response.map_err(|error| failed(chain(&error)))?.into_parts();
    let body = Limited::new(body, MOST_BYTES).collect().await;
    let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
    let said = |message: String| Error::Answer {
        pod: pod.to_owned(),
        message,
    };
    if head.status != StatusCode::OK {
        let trouble = serde_json::from_slice::<Trouble>(&body).map(|trouble| trouble.message);
        return Err(said(trouble.unwrap_or_else(|_| head.status.to_string())));
    }
    let found: Decisions = serde_json::from_slice(&body).map_err(|error| said(chain(&error)))?;
    Ok(found.decisions)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;
    use virga_controller::{
        debug, fixtures,
        process::{Identity, Parts},
        scheduling::HostDefaults,
    };
    use virga_runtime::{clock::SystemClock, metrics};

    use super::*;

    #[test]
    fn a_candidate_is_named_for_its_pod() {
        assert_eq!(
            pod_of("virga-controller-6f7d9-x2x4b-00c0ffee"),
            Some("virga-controller-6f7d9-x2x4b")
        );
        for none in [
            "",
            "virga",
            "virga-controller",
            "-00c0ffee",
            "pod-00c0ffe",
            "pod-00c0ffgg",
        ] {
            assert_eq!(pod_of(none), None, "{none}");
        }
    }

    #[tokio::test]
    async fn a_replica_that_does_not_lead_says_so_over_the_wire() {
        let api = fixtures::api();
        let clock: Arc<dyn virga_runtime::clock::Clock> = Arc::new(SystemClock);
        let identity = Identity {
            namespace: "virga-system",
            pod: "a",
            holder: "a",
        };
        let mut registry = metrics::registry();
        let parts = Parts::new(
            &api.client(),
            &clock,
            identity,
            HostDefaults::default(),
            virga_controller::ovn::Carrier::default(),
            &mut registry,
        );
        let router = debug::router(parts.context.scheduler.clone(), parts.context.leadership.clone());
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let stop = CancellationToken::new();
        let address = free.to_string().parse().unwrap();
        tokio::spawn(debug::serve(address, router, stop.clone()));
        let mut stream = TcpStream::connect(free).await;
        for _ in 0..100 {
            if stream.is_ok() {
                break;
            }
            tokio::task::yield_now().await;
            stream = TcpStream::connect(free).await;
        }
        let error = fetch(stream.unwrap(), "a", "/decisions/shop/web").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "its Pod a says: this replica does not lead, and decides nothing"
        );
        let stream = TcpStream::connect(free).await.unwrap();
        let error = fetch(stream, "a", "/elsewhere").await.unwrap_err();
        assert_eq!(error.to_string(), "its Pod a says: 404 Not Found");
        stop.cancel();
    }
}
