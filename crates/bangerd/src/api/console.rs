//! A VM's serial console, on a connection that stops being HTTP (RFC 9110 section 7.8).

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use banger_api::route;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, split};
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, wants_upgrade};
use crate::daemon::Daemon;

pub(super) async fn attach(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    mut request: Request,
) -> Answer<Response> {
    if !asks_for_console(request.headers()) {
        return Ok(wants_upgrade(route::CONSOLE_PROTOCOL));
    }
    let console = daemon.console(&name).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(relay(upgrade, console, daemon.shutdown().clone()));
    let switch = [(header::CONNECTION, "upgrade"), (header::UPGRADE, route::CONSOLE_PROTOCOL)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, switch, Body::empty()).into_response())
}

/// Whether a request asks for the protocol, and says that it is about this connection (RFC 9110 sections 7.6.1 and 7.8).
fn asks_for_console(headers: &HeaderMap) -> bool {
    let lists = |name: header::HeaderName, wanted: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    lists(header::CONNECTION, "upgrade") && lists(header::UPGRADE, route::CONSOLE_PROTOCOL)
}

/// Moves bytes until one of the two ends, or the daemon.
async fn relay(
    upgrade: OnUpgrade,
    console: impl AsyncRead + AsyncWrite + Unpin,
    shutdown: CancellationToken,
) {
    let client = match upgrade.await {
        Ok(client) => TokioIo::new(client),
        Err(error) => return tracing::debug!(%error, "a client went before it had its console"),
    };
    let ((mut typed, mut shown), (mut printed, mut keyboard)) = (split(client), split(console));
    let typing = async {
        copy(&mut typed, &mut keyboard).await?;
        keyboard.shutdown().await
    };
    let printing = copy(&mut printed, &mut shown);
    let relayed = async {
        tokio::pin!(typing, printing);
        tokio::select! {
            ended = &mut printing => match ended {
                Ok(_) => Ok(()),
                // What a client has typed before it went is typed.
                Err(_) => typing.await,
            },
            // One that has nothing more to type may still want to see.
            ended = &mut typing => {
                ended?;
                printing.await.map(drop)
            }
        }
    };
    let ended: io::Result<()> = tokio::select! {
        ended = relayed => ended,
        () = shutdown.cancelled() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a console ended");
    }
}
