//! A fake daemon: the API's routes over a unix socket, with answers that a test prepares.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use banger_api::route;
use banger_types::engine::EngineStatus;
use banger_types::event::{Change, Event};
use banger_types::image::Image;
use banger_types::kernel::Kernel;
use banger_types::monitor::Forward;
use banger_types::operation::{Operation, OperationStatus};
use banger_types::problem::Problem;
use banger_types::system::SystemStatus;
use banger_types::vm::{SessionTarget, SshConfiguration, Vm, VmRenameRequest};
use banger_types::{ApiError, ErrorKind};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::sync::Notify;

use super::guest::Guest;
use super::sample;

/// A request that changes something, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: serde_json::Value,
}

/// What the daemon has to show. Tests change it as they like.
pub(crate) struct Shown {
    pub(crate) vms: Vec<Vm>,
    pub(crate) images: Vec<Image>,
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) engines: Vec<EngineStatus>,
    /// For each operation to come, what becomes of it; one that does not end waits for its cancel.
    pub(crate) operations: VecDeque<Vec<Operation>>,
    /// Answers the next request that changes something.
    pub(crate) refusal: Option<ApiError>,
    pub(crate) log: Vec<u8>,
    pub(crate) version: String,
    pub(crate) system: SystemStatus,
    /// Answers every request with this text.
    pub(crate) nonsense: Option<String>,
    pub(crate) session: Option<SessionTarget>,
    /// What a watch of a VM tells.
    pub(crate) changes: Vec<Vm>,
    /// Whether it goes on after that without a word.
    pub(crate) watch_goes_on: bool,
    /// The query of the last look at what a prune would take away.
    pub(crate) planned: Option<String>,
}

pub(crate) struct Daemon {
    pub(crate) guest: Arc<Guest>,
    shown: Mutex<Shown>,
    requests: Mutex<Vec<Request>>,
    current: Mutex<Vec<Operation>>,
    cancelled: Notify,
    /// Told when somebody watches an operation.
    pub(crate) watched: Notify,
    /// Told when the daemon is to end.
    pub(crate) ended: Notify,
}

impl Daemon {
    pub(crate) fn start(socket: &Path, directory: &Path) -> Arc<Self> {
        let guest = Guest::start(directory);
        let shown = Shown {
            vms: Vec::new(),
            images: Vec::new(),
            kernels: Vec::new(),
            engines: Vec::new(),
            operations: VecDeque::new(),
            refusal: None,
            log: b"one\ntwo\x1b[2J\r\nthree".to_vec(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            system: sample::system(directory, std::process::id()),
            nonsense: None,
            session: Some(guest.target()),
            changes: Vec::new(),
            watch_goes_on: false,
            planned: None,
        };
        let daemon = Arc::new(Self {
            guest,
            shown: Mutex::new(shown),
            requests: Mutex::default(),
            current: Mutex::default(),
            cancelled: Notify::new(),
            watched: Notify::new(),
            ended: Notify::new(),
        });
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&daemon));
        tokio::spawn(async move { axum::serve(listener, router).await });
        daemon
    }

    pub(crate) fn shown<T>(&self, change: impl FnOnce(&mut Shown) -> T) -> T {
        change(&mut self.shown.lock().unwrap())
    }

    /// Returns the requests so far that change something.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    fn begin(&self) -> Result<Operation, ApiError> {
        let steps = self.shown(|shown| shown.operations.pop_front());
        let steps =
            steps.ok_or_else(|| ApiError::new(ErrorKind::Failed, "the test prepared no operation"))?;
        let first = steps[0].clone();
        *self.current.lock().unwrap() = steps;
        Ok(first)
    }

    fn current(&self, id: &str) -> Result<Operation, ApiError> {
        let current = self.current.lock().unwrap();
        current
            .last()
            .filter(|o| o.id.as_str() == id)
            .cloned()
            .ok_or_else(|| ApiError::not_found("operation", id))
    }

    /// Returns the VM at each change.
    fn watch_vm(&self) -> Body {
        let (changes, goes_on) = self.shown(|shown| (shown.changes.clone(), shown.watch_goes_on));
        self.watched.notify_one();
        let lines =
            changes.into_iter().map(|vm| Ok::<_, std::io::Error>(event(Change::Vm { vm: Box::new(vm) })));
        let lines = futures_util::stream::iter(lines);
        if goes_on {
            Body::from_stream(lines.chain(futures_util::stream::pending()))
        } else {
            Body::from_stream(lines)
        }
    }

    /// Returns the operation at each step, and its cancel if it has no end of its own.
    fn watch(self: Arc<Self>) -> Body {
        let mut steps: VecDeque<Operation> = self.current.lock().unwrap().clone().into();
        let open = steps.back().is_some_and(|last| !last.status.is_final());
        let last = steps.back().cloned();
        self.watched.notify_one();
        let stream = futures_util::stream::unfold((self, open), move |(daemon, open)| {
            let step = steps.pop_front();
            let cancelled = last.clone().map(|last| Operation { status: OperationStatus::Cancelled, ..last });
            async move {
                let (step, open) = match step {
                    Some(step) => (step, open),
                    None if open => {
                        daemon.cancelled.notified().await;
                        let step = cancelled?;
                        *daemon.current.lock().unwrap() = vec![step.clone()];
                        (step, false)
                    }
                    None => return None,
                };
                let told = event(Change::Operation { operation: Box::new(step) });
                Some((Ok::<_, std::io::Error>(told), (daemon, open)))
            }
        });
        Body::from_stream(stream)
    }
}

/// Returns what the daemon says of a change.
fn event(change: Change) -> Bytes {
    let event = Event { id: "1-1".to_owned(), at: jiff::Timestamp::UNIX_EPOCH, change };
    Bytes::from(format!("id: 1-1\ndata: {}\n\n", serde_json::to_string(&event).unwrap()))
}

async fn answer(State(daemon): State<Arc<Daemon>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let version = daemon.shown(|shown| shown.version.clone());
    let builder = Response::builder().header(route::VERSION_HEADER, version);
    if let Some(text) = daemon.shown(|shown| shown.nonsense.clone()) {
        return builder.body(Body::from(text)).unwrap();
    }
    match reply(&daemon, &method, &uri, &body) {
        Ok(body) => builder.body(body).unwrap(),
        Err(error) => {
            let status = StatusCode::from_u16(error.kind.http_status()).unwrap();
            builder.status(status).body(json(&Problem::from(error))).unwrap()
        }
    }
}

fn json(value: &impl Serialize) -> Body {
    Body::from(serde_json::to_vec(value).unwrap())
}

fn reply(daemon: &Arc<Daemon>, method: &Method, uri: &Uri, body: &[u8]) -> Result<Body, ApiError> {
    if *method != Method::GET {
        daemon.requests.lock().unwrap().push(Request {
            method: method.to_string(),
            path: uri.to_string(),
            body: serde_json::from_slice(body).unwrap(),
        });
        if let Some(refusal) = daemon.shown(|shown| shown.refusal.take()) {
            return Err(refusal);
        }
    }
    let parts: Vec<&str> = uri.path().trim_start_matches("/v1/").split('/').collect();
    let vm = |name: &str| {
        let found = daemon.shown(|shown| shown.vms.iter().find(|vm| vm.name.as_str() == name).cloned());
        found.ok_or_else(|| ApiError::not_found("VM", name).fix("banger vm ls"))
    };
    let forward = || serde_json::from_slice::<Forward>(body).unwrap();
    Ok(match (method.as_str(), parts.as_slice()) {
        ("GET", ["system"]) => json(&daemon.shown(|shown| shown.system.clone())),
        ("POST", ["system", "shutdown"]) => {
            daemon.ended.notify_one();
            json(&())
        }
        ("GET", ["vms"]) => json(&daemon.shown(|shown| shown.vms.clone())),
        ("GET" | "PATCH", ["vms", name]) => json(&vm(name)?),
        ("GET", ["events"]) => {
            let query = uri.query().unwrap_or_default();
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            match pairs.find(|(name, _)| *name == "operation") {
                None => daemon.watch_vm(),
                Some((_, id)) => {
                    daemon.current(id)?;
                    Arc::clone(daemon).watch()
                }
            }
        }
        ("GET", ["vms", name, "forwards"]) => json(&vm(name)?.forwards),
        ("POST", ["vms", name, "forwards"]) => {
            vm(name)?;
            let mut forward = forward();
            if forward.listen.port() == 0 {
                forward.listen.address.set_port(40_000);
            }
            json(&forward)
        }
        ("POST", ["vms", name, "rename"]) => {
            let request: VmRenameRequest = serde_json::from_slice(body).unwrap();
            json(&Vm { name: request.name, ..vm(name)? })
        }
        ("GET", ["ssh-config"]) => json(&SshConfiguration {
            file: "/data/ssh config".into(),
            text: "Host *.banger\n\tUser root\n".to_owned(),
        }),
        ("GET", ["vms", name, "session"]) => {
            vm(name)?;
            let target = daemon.shown(|shown| shown.session.clone());
            json(&target.ok_or_else(|| {
                ApiError::new(ErrorKind::Conflict, format!("VM '{name}' is stopped"))
                    .fix(format!("banger vm start {name}"))
            })?)
        }
        ("GET", ["vms", name, "logs"]) => {
            vm(name)?;
            let log = daemon.shown(|shown| shown.log.clone());
            Body::from([uri.query().unwrap().as_bytes(), b"\n", &log].concat())
        }
        ("GET", ["system", "settings"]) => json(&sample::settings()),
        ("GET", ["system", "space"]) => json(&sample::space()),
        ("GET", ["system", "prune"]) => {
            daemon.shown(|shown| shown.planned = uri.query().map(str::to_owned));
            json(&sample::pruned())
        }
        ("GET", ["images", name]) => {
            let found = daemon.shown(|shown| shown.images.iter().find(|image| image.name == *name).cloned());
            json(&found.ok_or_else(|| ApiError::not_found("image", name))?)
        }
        ("GET", ["images"]) => json(&daemon.shown(|shown| shown.images.clone())),
        ("GET", ["kernels", name]) => {
            let found =
                daemon.shown(|shown| shown.kernels.iter().find(|kernel| kernel.name == *name).cloned());
            json(&found.ok_or_else(|| ApiError::not_found("kernel", name))?)
        }
        ("GET", ["kernels"]) => json(&daemon.shown(|shown| shown.kernels.clone())),
        ("GET", ["engines"]) => json(&daemon.shown(|shown| shown.engines.clone())),
        ("GET", ["operations"]) => json(&*daemon.current.lock().unwrap()),
        ("GET", ["operations", id]) => json(&daemon.current(id)?),
        ("GET", ["operations", id, "log"]) => {
            daemon.current(id)?;
            Body::from("line of the log\n")
        }
        ("POST", ["operations", id, "cancel"]) => {
            let operation = daemon.current(id)?;
            daemon.cancelled.notify_one();
            json(&operation)
        }
        ("DELETE", ["vms", _, "forwards"]) => json(&()),
        ("POST" | "DELETE", _) => json(&daemon.begin()?),
        _ => return Err(ApiError::not_found("route", uri.path())),
    })
}

impl Daemon {
    /// Prepares operations without a request that begins them.
    pub(crate) fn prepare(&self, steps: Vec<Operation>) {
        *self.current.lock().unwrap() = steps;
    }
}
