//! How is HTTP served? A connection a call, with a bound on how long it takes to say what is wanted.

use std::{io, net::SocketAddr, time::Duration};

use axum::{Router, extract::Request};
use axum_server::{Handle, Server, accept::Accept, service::SendService};
use hyper::body::Incoming;
use hyper_util::rt::TokioTimer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

const HEADER_LIMIT: Duration = Duration::from_secs(5);

/// Serves until `stop` is cancelled, and then ends what is under way, within `drain`.
///
/// # Errors
/// When the address can't be listened on.
pub async fn serve<A>(
    server: Server<SocketAddr, A>,
    router: Router,
    drain: Duration,
    stop: CancellationToken,
) -> io::Result<()>
where
    A: Accept<TcpStream, Router> + Clone + Send + Sync + 'static,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send,
    A::Service: SendService<Request<Incoming>> + Send,
    A::Future: Send,
{
    let handle = Handle::new();
    let stopper = handle.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        stopper.graceful_shutdown(Some(drain));
    });
    let mut server = server.handle(handle).http1_only();
    let http1 = &mut server.http_builder().http1();
    http1
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT);
    server.serve(router.into_make_service()).await
}
