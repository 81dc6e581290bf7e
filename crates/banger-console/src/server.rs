//! Serving browsers: each request past the guard, and none for longer than it may take.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::{get, post};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use crate::answer::Trouble;
use crate::connections::{Connection, Connections};
use crate::session::{COOKIE, Session};
use crate::visit::Visit;
use crate::{App, assets, guard, layout, pages};

/// How long a browser may take for the head of a request, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Most that the head of a request may be, bytes. Cookies know no ports: a browser sends all that guests' sites on other ports of this host
/// have set, which may be as many as it keeps for one host (180 of 4 KiB in Chromium), and the console is to be had all the same.
const LARGEST_HEAD: usize = 1 << 20;

/// Serves until the console is to end, and then for as long as what was asked before takes.
pub(crate) async fn serve(mut listener: TcpListener, app: Arc<App>) {
    let router = router(&app);
    let connections = Arc::new(Connections::default());
    let open = TaskTracker::new();
    loop {
        // Waits out a shortage of descriptors.
        let (stream, _) = tokio::select! {
            accepted = axum::serve::Listener::accept(&mut listener) => accepted,
            () = app.shutdown.cancelled() => break,
        };
        let Some(connection) = connections.admit() else { continue };
        let (app, router, connections) = (Arc::clone(&app), router.clone(), Arc::clone(&connections));
        open.spawn(async move {
            let _forgetting = connections.forgetting(&connection);
            tokio::select! {
                () = converse(stream, app, router, Arc::clone(&connection)) => {}
                // In the middle of whatever it does: it may be that it reads nothing of what it has asked for.
                () = connection.is_to_be_closed() => {}
            }
        });
    }
    drop(listener);
    open.close();
    open.wait().await;
}

async fn converse(stream: TcpStream, app: Arc<App>, router: Router, own: Arc<Connection>) {
    let shutdown = app.shutdown.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&own));
        answer(Arc::clone(&app), router.clone(), request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        // A terminal's connection becomes a WebSocket.
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
        tracing::debug!(%error, "a connection to the web console ended");
    }
}

async fn answer(
    app: Arc<App>,
    mut router: Router,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let (parts, body) = request.into_parts();
    let answer = match app.guard.check(&parts) {
        Ok(()) => router.call(Request::from_parts(parts, Body::new(body))).await?,
        Err(trouble) => layout::bare_trouble(&trouble),
    };
    // Of those outside of a session, who have no page of their own.
    let answer = match answer.extensions().get::<Trouble>() {
        Some(trouble) => layout::bare_trouble(trouble),
        None => answer,
    };
    Ok(guard::harden(answer))
}

fn router(app: &Arc<App>) -> Router {
    // Behind a fallback, and not below "/s/{session}": an inner router's handlers would be given that as well.
    let inner = pages::router().with_state(Arc::clone(app));
    let sessions = Arc::clone(app);
    let within = move |request: Request<Body>| within(sessions, inner, request);
    Router::new()
        .route("/", get(pages::sign_in::explain))
        .route("/sign-in/{token}", get(pages::sign_in::offer))
        .route("/sign-in", post(pages::sign_in::accept))
        .route("/assets/{name}", get(assets::serve))
        .method_not_allowed_fallback(pages::no_such_method)
        .fallback(within)
        .with_state(Arc::clone(app))
}

/// Answers a request to a page of a session.
async fn within(app: Arc<App>, mut inner: Router, mut request: Request<Body>) -> Response {
    let found = find(&app, request.uri(), request.headers());
    let Some((session, page)) = found else { return pages::sign_in::not_signed_in() };
    if let Some(connection) = request.extensions().get::<Arc<Connection>>() {
        connection.is_of_session();
    }
    let uri = request.uri().clone();
    let answer = match guard::check_site(request.headers()) {
        Ok(()) => {
            *request.uri_mut() = page;
            request.extensions_mut().insert(Arc::clone(&session));
            let Ok(answer) = inner.call(request).await;
            answer
        }
        Err(trouble) => axum::response::IntoResponse::into_response(trouble),
    };
    // What the router says by itself is a word without a page: a name that is no text, say.
    let words = answer.status() == StatusCode::BAD_REQUEST && !is_page(&answer);
    let unread = words.then(Trouble::no_page);
    match answer.extensions().get::<Trouble>().or(unread.as_ref()) {
        Some(trouble) => {
            layout::trouble(&Visit::new(&app, session, uri.query().unwrap_or_default()), uri.path(), trouble)
        }
        None => answer,
    }
}

fn is_page(answer: &Response) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"))
}

/// Returns the session that a request is of, and the page that it asks for there.
fn find(app: &App, uri: &Uri, headers: &HeaderMap) -> Option<(Arc<Session>, Uri)> {
    let (prefix, _) = uri.path().strip_prefix("/s/")?.split_once('/')?;
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookies =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let own: Vec<&str> = cookies.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value).collect();
    let session = app.sessions.find(prefix, &own)?;
    let page = uri.path_and_query()?.as_str().strip_prefix(session.path().as_str())?.parse().ok()?;
    Some((session, page))
}
