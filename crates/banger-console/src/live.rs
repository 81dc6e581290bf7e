//! Streams of what changes on a page (WHATWG HTML section 9.2, "Server-sent events"): its parts, made anew, and a log's next
//! lines. One stream a page, for a browser has few connections; and none while nobody looks at it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use banger_api::request::{EventQuery, LogKind, LogQuery};
use banger_api::{Chunks, ClientError};
use banger_types::{ApiError, ErrorKind};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use crate::answer::{Answer, Trouble};
use crate::layout::Parts;
use crate::pages::{dashboard, operation, vm};
use crate::plain::Plain;
use crate::visit::Visit;

/// A word is said this often if there is nothing to tell, so that a browser that has gone is found out.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// A page is made anew this often at most.
const PACE: Duration = Duration::from_millis(50);
/// What a VM takes is looked at this often, while somebody looks at it.
const STATS: Duration = Duration::from_secs(2);
/// Lines of a log that a stream begins with.
pub(crate) const LOG_LINES: u64 = 200;

/// What a page is about.
enum Subject {
    Dashboard,
    Vm(String, Box<vm::View>),
    Operation(String),
    Operations,
}

impl Subject {
    fn of(visit: &Visit) -> Option<Self> {
        let named = |name| Some(visit.query(name)).filter(|value| !value.is_empty()).map(str::to_owned);
        match visit.query("page") {
            "dashboard" => Some(Self::Dashboard),
            "operations" => Some(Self::Operations),
            "vm" => named("name").map(|name| Self::Vm(name, Box::default())),
            "operation" => named("name").map(Self::Operation),
            _ => None,
        }
    }

    fn events(&self) -> EventQuery {
        let all = EventQuery::default();
        match self {
            Self::Dashboard => EventQuery { kind: Some("vm,operation".to_owned()), ..all },
            Self::Operations => EventQuery { kind: Some("operation".to_owned()), ..all },
            Self::Vm(name, _) => EventQuery { vm: Some(name.clone()), ..all },
            Self::Operation(id) => EventQuery { operation: Some(id.clone()), ..all },
        }
    }

    async fn parts(&mut self, visit: &Visit) -> Result<Parts, Trouble> {
        match self {
            Self::Dashboard => dashboard::parts(visit).await,
            Self::Operations => operation::list_parts(visit).await,
            Self::Operation(id) => operation::parts(visit, id).await,
            Self::Vm(name, view) => view.parts(visit, name).await,
        }
    }

    async fn log(&self, visit: &Visit) -> Option<Chunks> {
        let Self::Vm(name, _) = self else { return None };
        let query = LogQuery { kind: LogKind::Serial, follow: true, lines: Some(LOG_LINES) };
        visit.client().vm_logs(name, query).await.ok()
    }
}

/// `GET /live`
pub(crate) async fn stream(visit: Visit) -> Answer {
    let subject = Subject::of(&visit).ok_or_else(Trouble::no_page)?;
    let permit = std::sync::Arc::clone(&visit.app.streams).try_acquire_owned().map_err(|_| {
        let error = ApiError::new(ErrorKind::Unreachable, "too many pages are followed at once");
        Trouble::from(error.fix("close some; this one is up to date whenever it is loaded"))
    })?;
    let (sender, mut receiver) = mpsc::channel(32);
    tokio::spawn(tell(visit, subject, sender, permit));
    let stream = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    let mut response: Response =
        Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(response)
}

type Sender = mpsc::Sender<Result<Event, Infallible>>;

/// Tells of a page until its browser, the daemon or what it is about goes.
async fn tell(visit: Visit, mut subject: Subject, sender: Sender, permit: OwnedSemaphorePermit) {
    let told = tokio::select! {
        told = follow(&visit, &mut subject, &sender) => told,
        () = sender.closed() => Ok(()),
        () = visit.app.shutdown.cancelled() => Ok(()),
        () = visit.session.over() => Ok(()),
    };
    if let Err(trouble) = told {
        let gone = Event::default().event("gone").data(json!(trouble.error.what).to_string());
        sender.send(Ok(gone)).await.ok();
    }
    drop(permit);
}

async fn follow(visit: &Visit, subject: &mut Subject, sender: &Sender) -> Result<(), Trouble> {
    // Before the page is made, so that nothing is missed in between.
    let mut events = visit.client().events(&subject.events()).await?;
    let mut log = subject.log(visit).await;
    let mut plain = Plain::default();
    let mut shown = HashMap::new();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stats = interval(STATS);
    stats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let moves = matches!(subject, Subject::Vm(..));
    let mut is_old = true;
    if log.is_some() {
        sender.send(Ok(Event::default().event("log-begin").data("0"))).await.ok();
    }
    loop {
        tokio::select! {
            event = events.next() => match event? {
                Some(_) => is_old = true,
                None => return Ok(()),
            },
            piece = next_piece(log.as_mut()) => match piece {
                Ok(Some(bytes)) => {
                    let text = plain.read(&bytes);
                    if !text.is_empty() {
                        sender.send(Ok(Event::default().event("log").data(json!(text).to_string()))).await.ok();
                    }
                }
                Ok(None) | Err(_) => log = None,
            },
            _ = stats.tick(), if moves => is_old = true,
            _ = pace.tick(), if is_old => {
                is_old = false;
                for (id, content) in subject.parts(visit).await? {
                    let content = content.into_string();
                    if shown.get(id) != Some(&content) {
                        let data = json!({ "id": id, "html": content }).to_string();
                        sender.send(Ok(Event::default().event("part").data(data))).await.ok();
                        shown.insert(id, content);
                    }
                }
            }
        }
    }
}

async fn next_piece(log: Option<&mut Chunks>) -> Result<Option<Bytes>, ClientError> {
    match log {
        Some(log) => log.next().await,
        None => pending().await,
    }
}
