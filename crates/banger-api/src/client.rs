//! A typed client for the daemon's unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use banger_types::address::HostPort;
use banger_types::catalog::Catalog;
use banger_types::engine::EngineStatus;
use banger_types::event::EventKind;
use banger_types::image::Image;
use banger_types::kernel::Kernel;
use banger_types::monitor::Forward;
use banger_types::operation::Operation;
use banger_types::port::VmPorts;
use banger_types::problem::Problem;
use banger_types::setting::Setting;
use banger_types::space::{PruneRequest, PruneRules, Pruned, SpaceUsage};
use banger_types::stats::VmStats;
use banger_types::system::{HostResources, SystemStatus};
use banger_types::vm::{
    SessionTarget, SshConfiguration, Vm, VmCreateRequest, VmRenameRequest, VmSetRequest, VmStopRequest,
};
use banger_types::web::SignInLink;
use banger_types::{ApiError, OperationId};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, LINK, USER_AGENT};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connect::connect;
use crate::events::{Events, Watch};
use crate::request::{
    EngineInstallRequest, EventQuery, KernelRegisterRequest, LogKind, LogQuery, PullRequest, RegisterRequest,
};
use crate::route;

/// Largest body that the client takes in one piece, bytes.
pub(crate) const BODY_LIMIT: usize = 64 << 20;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the daemon's socket.
    #[error("cannot reach bangerd on {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Whoever would answer is not this user: they would be told everything, and could answer anything.
    #[error("{} belongs to user {owner}, not to user {user}", socket.display())]
    Foreign {
        /// The socket.
        socket: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Us.
        user: u32,
    },
    /// The connection broke, or the request could not be made.
    #[error("the connection to bangerd broke")]
    Transport(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is not what the API says.
    #[error("bangerd gave an answer that this version of banger does not understand")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The daemon refused or failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

pub(crate) fn transport(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
    ClientError::Transport(error.into())
}

pub(crate) fn answer(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
    ClientError::Answer(error.into())
}

type Result<T, E = ClientError> = std::result::Result<T, E>;

/// A client of one daemon. Each call has its own connection.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    server_version: Arc<OnceLock<String>>,
    program: Arc<str>,
    key: Option<Arc<str>>,
}

impl Client {
    /// Returns a client for the daemon that listens on `socket`. Connects to nothing yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        let program = concat!("banger-api/", env!("CARGO_PKG_VERSION"));
        Self { socket: socket.into(), server_version: Arc::default(), program: program.into(), key: None }
    }

    /// Returns the client of a program that is called so, as `name/version`: what its operations are shown to be asked by.
    #[must_use]
    pub fn of_program(self, program: &str) -> Self {
        Self { program: program.into(), ..self }
    }

    /// Returns the same client, whose requests that begin something are one with those before that had the same key: of
    /// two equal ones the second gets the operation of the first. 1 to 255 printable ASCII characters.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.into()), ..self.clone() }
    }

    /// Returns the version that the daemon gave with its first answer; `None` before that.
    pub fn server_version(&self) -> Option<&str> {
        self.server_version.get().map(String::as_str)
    }

    /// Returns the daemon's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the daemon's status.
    pub async fn system(&self) -> Result<SystemStatus> {
        self.get(route::SYSTEM).await
    }

    /// Ends the daemon. VMs go on.
    pub async fn shut_down(&self) -> Result<()> {
        self.call(Method::POST, route::SYSTEM_SHUTDOWN, &()).await
    }

    /// Returns what the host has, and what VMs were promised of it.
    pub async fn resources(&self) -> Result<HostResources> {
        self.get(route::SYSTEM_RESOURCES).await
    }

    /// Returns the settings in force.
    pub async fn settings(&self) -> Result<Vec<Setting>> {
        self.get(route::SYSTEM_SETTINGS).await
    }

    /// Makes an address that opens the web console, once.
    pub async fn create_sign_in_link(&self) -> Result<SignInLink> {
        self.call(Method::POST, route::SIGN_IN_LINKS, &()).await
    }

    /// Returns what takes space.
    pub async fn space(&self) -> Result<SpaceUsage> {
        self.get(route::SYSTEM_SPACE).await
    }

    /// Returns what a prune by these rules would take away.
    pub async fn prunable(&self, rules: &PruneRules) -> Result<Pruned> {
        let PruneRules { images_only, all, older_than_seconds, keep } = rules;
        let older = older_than_seconds.map(|seconds| format!("&older_than_seconds={seconds}"));
        let older = older.unwrap_or_default();
        let query = format!("images_only={images_only}&all={all}&keep={keep}{older}");
        self.get(&format!("{}?{query}", route::SYSTEM_PRUNE)).await
    }

    /// Begins to take away what nobody uses, as far as it is asked for.
    pub async fn prune(&self, request: &PruneRequest) -> Result<Operation> {
        self.call(Method::POST, route::SYSTEM_PRUNE, request).await
    }

    /// Returns all VMs, ordered by name.
    pub async fn vms(&self) -> Result<Vec<Vm>> {
        self.get(route::VMS).await
    }

    /// Returns the VM of this name or id.
    pub async fn vm(&self, name: &str) -> Result<Vm> {
        self.get(&route::path(route::VM, name)).await
    }

    /// Begins to make a VM.
    pub async fn create_vm(&self, request: &VmCreateRequest) -> Result<Operation> {
        self.call(Method::POST, route::VMS, request).await
    }

    /// Begins to boot a VM.
    pub async fn start_vm(&self, name: &str) -> Result<Operation> {
        self.call(Method::POST, &route::path(route::VM_START, name), &()).await
    }

    /// Begins to stop a VM.
    pub async fn stop_vm(&self, name: &str, request: &VmStopRequest) -> Result<Operation> {
        self.call(Method::POST, &route::path(route::VM_STOP, name), request).await
    }

    /// Begins to stop a VM in order and to boot it again.
    pub async fn restart_vm(&self, name: &str, request: &VmStopRequest) -> Result<Operation> {
        self.call(Method::POST, &route::path(route::VM_RESTART, name), request).await
    }

    /// Begins to make a VM's virtual CPUs stand still.
    pub async fn pause_vm(&self, name: &str) -> Result<Operation> {
        self.call(Method::POST, &route::path(route::VM_PAUSE, name), &()).await
    }

    /// Begins to let a paused VM go on.
    pub async fn resume_vm(&self, name: &str) -> Result<Operation> {
        self.call(Method::POST, &route::path(route::VM_RESUME, name), &()).await
    }

    /// Begins to give back what a VM's guest does not use of its disk.
    pub async fn trim_vm(&self, name: &str) -> Result<Operation> {
        self.call(Method::POST, &route::path(route::VM_TRIM, name), &()).await
    }

    /// Changes what is wanted of a VM. Returns the VM as it is then.
    pub async fn set_vm(&self, name: &str, request: &VmSetRequest) -> Result<Vm> {
        self.call(Method::PATCH, &route::path(route::VM, name), request).await
    }

    /// Changes what is wanted of a VM if it still has the generation that it was seen to have.
    pub async fn set_vm_of(&self, generation: u64, name: &str, request: &VmSetRequest) -> Result<Vm> {
        let path = format!("{}?generation={generation}", route::path(route::VM, name));
        self.call(Method::PATCH, &path, request).await
    }

    /// Gives a VM another name. Returns the VM as it is then.
    pub async fn rename_vm(&self, name: &str, request: &VmRenameRequest) -> Result<Vm> {
        self.call(Method::POST, &route::path(route::VM_RENAME, name), request).await
    }

    /// Follows a VM: it as it is, then at each change, until it is deleted.
    pub async fn watch_vm(&self, name: &str) -> Result<Watch<Vm>> {
        let query = EventQuery {
            kind: Some(EventKind::Vm.to_string()),
            vm: Some(name.to_owned()),
            current: true,
            ..EventQuery::default()
        };
        Ok(Watch::new(self.clone(), self.events(&query).await?, name))
    }

    /// Listens to what changes.
    pub async fn events(&self, query: &EventQuery) -> Result<Events> {
        let EventQuery { kind, vm, operation, current, after } = query;
        let mut address = format!("{}?current={current}", route::EVENTS);
        for (name, value) in [("kind", kind), ("vm", vm), ("operation", operation), ("after", after)] {
            if let Some(value) = value {
                address = format!("{address}&{name}={}", route::query_value(value));
            }
        }
        Ok(Events::new(self.send(Method::GET, &address, None).await?.into_body()))
    }

    /// Returns a VM's forwards: those in force while it runs, else those that it will have.
    pub async fn forwards(&self, name: &str) -> Result<Vec<Forward>> {
        self.get(&route::path(route::VM_FORWARDS, name)).await
    }

    /// Adds a forward, for now and for later starts. Returns it with the port that was taken.
    pub async fn add_forward(&self, name: &str, forward: &Forward) -> Result<Forward> {
        self.call(Method::POST, &route::path(route::VM_FORWARDS, name), forward).await
    }

    /// Ends a forward. Open connections go on.
    pub async fn remove_forward(&self, name: &str, listen: HostPort) -> Result<()> {
        let path = format!("{}?listen={listen}", route::path(route::VM_FORWARDS, name));
        self.call(Method::DELETE, &path, &()).await
    }

    /// Returns how OpenSSH's programs reach the VMs.
    pub async fn ssh_configuration(&self) -> Result<SshConfiguration> {
        self.get(route::SSH_CONFIG).await
    }

    /// Returns what listens in a VM that runs, and what reaches it from the host.
    pub async fn vm_ports(&self, name: &str) -> Result<VmPorts> {
        self.get(&route::path(route::VM_PORTS, name)).await
    }

    /// Returns what a VM takes at this moment.
    pub async fn vm_stats(&self, name: &str) -> Result<VmStats> {
        self.get(&route::path(route::VM_STATS, name)).await
    }

    /// Begins to stop a VM without asking its guest.
    pub async fn kill_vm(&self, name: &str) -> Result<Operation> {
        self.call(Method::POST, &route::path(route::VM_KILL, name), &()).await
    }

    /// Begins to delete a VM. `force` kills it first if it runs.
    pub async fn delete_vm(&self, name: &str, force: bool) -> Result<Operation> {
        let path = format!("{}?force={force}", route::path(route::VM, name));
        self.call(Method::DELETE, &path, &()).await
    }

    /// Returns what is needed to open a session in a running VM.
    pub async fn session(&self, name: &str) -> Result<SessionTarget> {
        self.get(&route::path(route::VM_SESSION, name)).await
    }

    /// Returns one of a VM's logs, piece by piece.
    pub async fn vm_logs(&self, name: &str, query: LogQuery) -> Result<Chunks> {
        let kind = match query.kind {
            LogKind::Serial => "serial",
            LogKind::Boot => "boot",
            LogKind::Engine => "engine",
            LogKind::Monitor => "monitor",
        };
        let lines = query.lines.map(|lines| format!("&lines={lines}")).unwrap_or_default();
        let path =
            format!("{}?kind={kind}&follow={}{lines}", route::path(route::VM_LOGS, name), query.follow);
        Ok(Chunks { body: self.send(Method::GET, &path, None).await?.into_body() })
    }

    /// Returns all images, ordered by name.
    pub async fn images(&self) -> Result<Vec<Image>> {
        self.get(route::IMAGES).await
    }

    /// Returns the image of this name or id.
    pub async fn image(&self, name: &str) -> Result<Image> {
        self.get(&route::path(route::IMAGE, name)).await
    }

    /// Begins to make an image.
    pub async fn pull_image(&self, request: &PullRequest) -> Result<Operation> {
        self.call(Method::POST, route::IMAGES, request).await
    }

    /// Begins to register files of the user's own as an image.
    pub async fn register_image(&self, request: &RegisterRequest) -> Result<Operation> {
        self.call(Method::POST, route::REGISTERED_IMAGES, request).await
    }

    /// Begins to register files of the user's own as a kernel.
    pub async fn register_kernel(&self, request: &KernelRegisterRequest) -> Result<Operation> {
        self.call(Method::POST, route::REGISTERED_KERNELS, request).await
    }

    /// Begins to delete an image that no VM uses.
    pub async fn delete_image(&self, name: &str) -> Result<Operation> {
        self.call(Method::DELETE, &route::path(route::IMAGE, name), &()).await
    }

    /// Returns all kernels, ordered by name.
    pub async fn kernels(&self) -> Result<Vec<Kernel>> {
        self.get(route::KERNELS).await
    }

    /// Returns the kernel of this name or id.
    pub async fn kernel(&self, name: &str) -> Result<Kernel> {
        self.get(&route::path(route::KERNEL, name)).await
    }

    /// Returns what images and kernels can be had by name.
    pub async fn catalog(&self) -> Result<Catalog> {
        self.get(route::CATALOG).await
    }

    /// Returns all engines, as they are on the daemon's host.
    pub async fn engines(&self) -> Result<Vec<EngineStatus>> {
        self.get(route::ENGINES).await
    }

    /// Begins to install an engine.
    pub async fn install_engine(&self, request: &EngineInstallRequest) -> Result<Operation> {
        self.call(Method::POST, route::ENGINES, request).await
    }

    /// Begins to make a kernel.
    pub async fn pull_kernel(&self, request: &PullRequest) -> Result<Operation> {
        self.call(Method::POST, route::KERNELS, request).await
    }

    /// Begins to delete a kernel that no VM uses.
    pub async fn delete_kernel(&self, name: &str) -> Result<Operation> {
        self.call(Method::DELETE, &route::path(route::KERNEL, name), &()).await
    }

    /// Returns all operations that are still remembered, newest first.
    pub async fn operations(&self) -> Result<Vec<Operation>> {
        let mut all = Vec::new();
        let mut next = Some(route::OPERATIONS.to_owned());
        while let Some(address) = next {
            let response = self.send(Method::GET, &address, None).await?;
            next = next_page(&response);
            let page: Vec<Operation> = decode(&collect(response.into_body()).await?)?;
            all.extend(page);
        }
        Ok(all)
    }

    /// Returns the newest operations, as many as are wanted, 1 to 1000.
    pub async fn newest_operations(&self, limit: u32) -> Result<Vec<Operation>> {
        self.get(&format!("{}?limit={limit}", route::OPERATIONS)).await
    }

    /// Returns operations that come after one in that order, as many as are wanted, 1 to 1000.
    pub async fn operations_after(&self, id: &OperationId, limit: u32) -> Result<Vec<Operation>> {
        self.get(&format!("{}?limit={limit}&after={id}", route::OPERATIONS)).await
    }

    /// Returns the operation of this id.
    pub async fn operation(&self, id: &str) -> Result<Operation> {
        self.get(&route::path(route::OPERATION, id)).await
    }

    /// Follows an operation: it as it stands, then at each change, until it has ended.
    pub async fn watch_operation(&self, id: &str) -> Result<Watch<Operation>> {
        let query = EventQuery { operation: Some(id.to_owned()), current: true, ..EventQuery::default() };
        Ok(Watch::new(self.clone(), self.events(&query).await?, id))
    }

    /// Asks an operation to stop.
    pub async fn cancel_operation(&self, id: &str) -> Result<Operation> {
        self.call(Method::POST, &route::path(route::OPERATION_CANCEL, id), &()).await
    }

    /// Returns an operation's log.
    pub async fn operation_log(&self, id: &str) -> Result<Chunks> {
        let path = route::path(route::OPERATION_LOG, id);
        Ok(Chunks { body: self.send(Method::GET, &path, None).await?.into_body() })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.send(Method::GET, path, None).await?;
        decode(&collect(response.into_body()).await?)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        let body = serde_json::to_vec(body).map_err(transport)?;
        let response = self.send(method, path, Some(body)).await?;
        decode(&collect(response.into_body()).await?)
    }

    async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Response<Incoming>> {
        let response = self.ask(self.request(method, path), body.unwrap_or_default()).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(failure(response).await)
    }

    /// Begins a request with what every one of them has.
    pub(crate) fn request(&self, method: Method, path: &str) -> Builder {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "banger")
            .header(USER_AGENT, &*self.program)
            .header(route::VERSION_HEADER, env!("CARGO_PKG_VERSION"))
            .header(CONTENT_TYPE, "application/json");
        match &self.key {
            Some(key) => request.header(route::IDEMPOTENCY_KEY_HEADER, &**key),
            None => request,
        }
    }

    /// Sends a request on a connection of its own, and returns whatever is answered.
    pub(crate) async fn ask(&self, request: Builder, body: Vec<u8>) -> Result<Response<Incoming>> {
        let request = request.body(Full::new(Bytes::from(body))).map_err(transport)?;
        let stream = connect(&self.socket).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(transport)?;
        // Ends by itself when the response has been read or dropped.
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(transport)?;
        if let Some(version) = response.headers().get(route::VERSION_HEADER).and_then(|v| v.to_str().ok()) {
            self.server_version.get_or_init(|| version.to_owned());
        }
        Ok(response)
    }
}

/// Returns the address of the next part of a list (RFC 8288 section 3).
fn next_page(response: &Response<Incoming>) -> Option<String> {
    let link = response.headers().get(LINK)?.to_str().ok()?;
    let (address, relation) = link.strip_prefix('<')?.split_once('>')?;
    relation.contains("rel=\"next\"").then(|| address.to_owned())
}

pub(crate) async fn failure(response: Response<Incoming>) -> ClientError {
    let status: StatusCode = response.status();
    match collect(response.into_body()).await {
        Ok(body) => match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => ClientError::Api(problem.into()),
            Err(_) => answer(format!("HTTP status {status}: {}", String::from_utf8_lossy(&body).trim())),
        },
        Err(error) => error,
    }
}

async fn collect(body: Incoming) -> Result<Bytes> {
    let limited = http_body_util::Limited::new(body, BODY_LIMIT);
    Ok(limited.collect().await.map_err(transport)?.to_bytes())
}

pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(answer)
}

/// A body that is read piece by piece.
#[derive(Debug)]
pub struct Chunks {
    body: Incoming,
}

impl Chunks {
    /// Returns the next piece, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        next_data(&mut self.body).await
    }
}

pub(crate) async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(transport)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
