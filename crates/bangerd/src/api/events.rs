//! `/v1/events`

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use banger_api::request::EventQuery;
use banger_types::event::Event;

use super::answer::{Answer, Query};
use crate::daemon::Daemon;
use crate::event::{Filter, Listener};

/// A word is said this often if there is nothing to tell, so that a client that has gone is found out.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Tells of changes until the client or the daemon goes (WHATWG HTML section 9.2, "Server-sent events").
pub(super) async fn listen(
    State(daemon): State<Arc<Daemon>>,
    headers: HeaderMap,
    Query(query): Query<EventQuery>,
) -> Answer<Response> {
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default().to_owned());
    let (listener, filter) = daemon.listen(EventQuery { after: last.or(query.after), ..query }).await?;
    let shutdown = daemon.shutdown().clone();
    let stream = futures_util::stream::unfold((listener, filter), move |(mut listener, mut filter)| {
        let shutdown = shutdown.clone();
        async move {
            let event = tokio::select! {
                event = next(&mut listener, &mut filter) => event?,
                () = shutdown.cancelled() => return None,
            };
            Some((Ok::<_, Infallible>(told(&event)), (listener, filter)))
        }
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

async fn next(listener: &mut Listener, filter: &mut Filter) -> Option<Arc<Event>> {
    loop {
        let event = listener.next().await?;
        if filter.lets_through(&event.change) {
            return Some(event);
        }
    }
}

fn told(event: &Event) -> sse::Event {
    let told = sse::Event::default().id(&event.id).event(event.change.name());
    // JSON has no line break, and nothing in an event fails to be JSON.
    told.data(serde_json::to_string(event).unwrap_or_default())
}
