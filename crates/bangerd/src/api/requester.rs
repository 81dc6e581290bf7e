//! Who asks, and whether they ask once more: every request that is no GET passes here.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use banger_api::endpoint::{self, Endpoint, Verb};
use banger_api::route;
use banger_types::digest::Digest;
use banger_types::operation::{Asker, RequestKey};
use sha2::Digest as _;

use super::answer::{BODY_LIMIT, Begun, Failure, too_large, too_slow, unreadable};
use super::listener::Client;
use crate::daemon::Daemon;
use crate::failure::failed;
use crate::operation::Requester;

/// Longest name of a program that is kept, characters.
const LONGEST_PROGRAM: usize = 100;
/// How long a request's body may take to come.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Longest key, bytes.
const LONGEST_KEY: usize = 255;

/// Finds out who asks. A request with a key that has begun an operation gets that operation again.
pub(super) async fn know(
    State(daemon): State<Arc<Daemon>>,
    ConnectInfo(client): ConnectInfo<Client>,
    mut request: Request,
    next: Next,
) -> Response {
    let (method, path) = (request.method().as_str(), request.uri().path());
    // Others are refused by the router, whatever their key.
    let is_asked = |endpoint: &Endpoint| endpoint.verb != Verb::Get && endpoint.is_asked_by(method, path);
    if !endpoint::ALL.iter().any(is_asked) {
        return next.run(request).await;
    }
    let asker = Asker { program: program(request.headers()), pid: Some(client.pid).filter(|pid| *pid > 0) };
    let body = match read(std::mem::take(request.body_mut())).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    *request.body_mut() = Body::from(body.clone());
    let key = match key(request.headers()) {
        Err(why) => return unreadable("idempotency key", why),
        Ok(key) => key,
    };
    let asked = match key {
        None => tokio::spawn(run(next, request, Requester { asker, key: None })),
        Some(key) => tokio::spawn(run_once(daemon, next, request, (asker, key), body)),
    };
    // To its end even if the client goes: what has begun by then is done, and is what its key stands for; and what is half
    // deleted would be in nobody's list.
    asked.await.unwrap_or_else(|error| Failure(failed("cannot answer a request", &error)).into_response())
}

/// Lets a request go on, with what is known of whoever asks.
async fn run(next: Next, mut request: Request, requester: Requester) -> Response {
    request.extensions_mut().insert(requester);
    next.run(request).await
}

/// Lets a request with a key go on, unless it has begun an operation already.
async fn run_once(
    daemon: Arc<Daemon>,
    next: Next,
    request: Request,
    (asker, key): (Asker, String),
    body: Bytes,
) -> Response {
    let digest = digest(request.method(), request.uri(), &body);
    let key = RequestKey { key, digest };
    let operations = daemon.operations();
    // Two at once with one key: the second waits for what the first begins.
    let _alone = operations.keys().enter(&key.key).await;
    let known = operations.keys().operation(&key).and_then(|id| id.map(|id| operations.get(&id)).transpose());
    match known {
        Err(error) => Failure(error).into_response(),
        Ok(Some(operation)) => Begun(operation).into_response(),
        Ok(None) => run(next, request, Requester { asker, key: Some(key) }).await,
    }
}

/// Returns a request's body, or the answer to one that is too large or does not come.
async fn read(body: Body) -> Result<Bytes, Response> {
    match tokio::time::timeout(BODY_TIME, to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(too_large()),
        Err(_) => Err(too_slow(BODY_TIME)),
    }
}

/// Returns what a program calls itself, as far as it can be shown.
fn program(headers: &HeaderMap) -> String {
    let name = headers.get(header::USER_AGENT).and_then(|name| name.to_str().ok()).unwrap_or_default();
    let name: String = name.chars().take(LONGEST_PROGRAM).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, String> {
    let mut keys = headers.get_all(route::IDEMPOTENCY_KEY_HEADER).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let is_good = |key: &&str| {
        (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match key.to_str().ok().filter(is_good) {
        Some(key) if keys.next().is_none() => Ok(Some(key.to_owned())),
        _ => Err(format!(
            "it has to be one header of 1 to {LONGEST_KEY} printable ASCII characters, without blanks"
        )),
    }
}

/// Returns what two equal requests have in common.
fn digest(method: &Method, uri: &Uri, body: &Bytes) -> Digest {
    let mut hash = sha2::Sha256::new();
    // None of the first two has a line break in it.
    hash.update(format!("{method}\n{uri}\n"));
    hash.update(body);
    Digest::from_bytes(hash.finalize().into())
}
