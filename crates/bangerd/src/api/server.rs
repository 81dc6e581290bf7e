//! Serving the API's clients: each as long as it likes, but for what it has to say itself.
//!
//! axum's own server waits for a request's head for ever.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use axum::http::{Request, Response};
use axum::serve::Listener as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use super::listener::{Client, PrivateListener};

/// How long a client may take for the head of a request.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// Serves until `shutdown`, and then for as long as what was asked before takes.
pub(crate) async fn serve(mut listener: PrivateListener, router: Router, shutdown: CancellationToken) {
    let open = TaskTracker::new();
    loop {
        let (stream, client) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        open.spawn(converse(stream, client, router.clone(), shutdown.clone()));
    }
    // Nobody is let in any more.
    drop(listener);
    open.close();
    open.wait().await;
}

/// Serves one connection, until its end or that of what was asked before `shutdown`.
async fn converse(stream: UnixStream, client: Client, router: Router, shutdown: CancellationToken) {
    let service = service_fn(move |request| answer(router.clone(), client, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, pid = client.pid, "a connection ended");
    }
}

async fn answer(
    mut router: Router,
    client: Client,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(client));
    router.call(request).await
}
