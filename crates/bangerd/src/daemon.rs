//! The daemon as one object: what the API (and whatever comes beside it) calls.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use banger_api::request::{EventQuery, PageQuery};
use banger_api::route;
use banger_console::Door;
use banger_core::store::Page;
use banger_core::vm::Request;
use banger_types::address::HostPort;
use banger_types::event::{Change, EventKind};
use banger_types::monitor::Forward;
use banger_types::operation::Operation;
use banger_types::port::VmPorts;
use banger_types::setting::Setting;
use banger_types::space::{PruneRules, Pruned, SpaceUsage};
use banger_types::stats::VmStats;
use banger_types::system::{HostResources, SystemStatus};
use banger_types::vm::{
    Isolation, SessionTarget, SshConfiguration, Vm, VmRenameRequest, VmSetRequest, VmState, VmStopRequest,
};
use banger_types::web::SignInLink;
use banger_types::{ApiError, ErrorKind, Refusal, VmName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::artifact::Artifacts;
use crate::assignment::{self, Assignment};
use crate::event::{Filter, Listener, NamedVm};
use crate::failure::FromStore as _;
use crate::layout::vm_file;
use crate::operation::{Operations, Requester, Terms};
use crate::space;
use crate::ssh::default_user;
use crate::vm::{self, Context, Edit, Edited, Origin, VmHandle, blocking, in_place};

/// How many items a part of a list has when nobody says.
const PAGE: u32 = 100;
/// How many it has at most.
const LARGEST_PAGE: u32 = 1000;

/// Everything that can be asked of the daemon.
pub(crate) struct Daemon {
    artifacts: Arc<Artifacts>,
    socket: PathBuf,
    started_at: jiff::Timestamp,
    shutdown: CancellationToken,
    /// Directories of VMs that the database did not know at start.
    unknown_vms: Vec<PathBuf>,
    /// What listens in VMs and was found to speak something.
    spoken: vm::Spoken,
    /// The web console's, or why there is none.
    door: Result<Door, ApiError>,
}

impl Daemon {
    pub(crate) fn new(
        artifacts: Arc<Artifacts>,
        socket: PathBuf,
        unknown_vms: Vec<PathBuf>,
        door: Result<Door, ApiError>,
    ) -> Self {
        let shutdown = CancellationToken::new();
        Self {
            artifacts,
            socket,
            started_at: jiff::Timestamp::now(),
            shutdown,
            unknown_vms,
            spoken: vm::Spoken::default(),
            door,
        }
    }

    fn context(&self) -> &Arc<Context> {
        self.artifacts.context()
    }

    pub(crate) fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    pub(crate) fn operations(&self) -> &Operations {
        &self.context().operations
    }

    pub(crate) fn operation_log(&self, id: &banger_types::OperationId) -> PathBuf {
        self.context().layout.operation_log(id)
    }

    /// Cancelled when the daemon is to end.
    pub(crate) const fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    pub(crate) async fn system(&self) -> Result<SystemStatus, ApiError> {
        let vms = self.context().vms.list();
        let layout = &self.context().layout;
        let places = Arc::clone(&self.context().places);
        let helper = vm::blocking("look for the root helper", move || places.readiness()).await?;
        Ok(SystemStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            socket: self.socket.clone(),
            data_directory: layout.data().to_owned(),
            log: layout.log(),
            engine: self.context().describe_engine(),
            helper,
            vms: vms.len() as u64,
            vms_running: vms.iter().filter(|vm| vm.state == VmState::Running).count() as u64,
            // Their owner may have taken them away meanwhile.
            unknown_vms: self.unknown_vms.iter().filter(|directory| directory.exists()).cloned().collect(),
            images: self.artifacts.images().await?.len() as u64,
            kernels: self.artifacts.kernels().await?.len() as u64,
            started_at: self.started_at,
            web: self.door.as_ref().ok().map(Door::describe),
        })
    }

    /// Returns what the host has, and what VMs were promised of it.
    pub(crate) async fn resources(&self) -> Result<HostResources, ApiError> {
        let vms = self.vms();
        let data = self.context().layout.data().to_owned();
        blocking("look at the host's resources", move || host_resources(&vms, &data)).await
    }

    /// Returns the settings in force.
    pub(crate) fn settings(&self) -> Result<Vec<Setting>, ApiError> {
        self.context().settings.shown()
    }

    /// Makes an address that opens the web console once.
    pub(crate) fn create_sign_in_link(&self) -> Result<SignInLink, ApiError> {
        let door = self.door.as_ref().map_err(ApiError::clone)?;
        door.open().map_err(|error| crate::failure::failed("cannot make a sign-in link", &error))
    }

    pub(crate) async fn space(&self) -> Result<SpaceUsage, ApiError> {
        space::usage(&self.artifacts).await
    }

    pub(crate) async fn prunable(&self, rules: &PruneRules) -> Result<Pruned, ApiError> {
        space::prunable(&self.artifacts, rules).await
    }

    pub(crate) fn vms(&self) -> Vec<Vm> {
        self.context().vms.list().into_iter().map(with_disk).collect()
    }

    pub(crate) fn vm(&self, name: &str) -> Result<Vm, ApiError> {
        Ok(as_shown(self.find(name)?.snapshot()))
    }

    fn find(&self, name: &str) -> Result<VmHandle, ApiError> {
        self.context().vms.find(name)
    }

    /// Begins to make something, when everything about the request was looked at.
    pub(crate) async fn begin(
        &self,
        assignment: Assignment,
        requester: Requester,
    ) -> Result<Operation, ApiError> {
        self.check_takes_work()?;
        let assignment = assignment.with_everything_chosen();
        let (kind, handed_on) = (assignment.kind(), assignment.to_hand_on().await?);
        let client = requester.asker.pid.unwrap_or_default();
        let task = assignment.examine(&self.artifacts, client).await?;
        let terms = Terms {
            kind,
            subject: task.subject(),
            stop: None,
            waits: false,
            assignment: handed_on,
            requester,
        };
        let operations = Arc::clone(&self.context().operations);
        let begun = blocking("begin an operation", move || operations.begin(terms)).await?;
        let handle = begun.map_err(ApiError::from_store("begin an operation"))?;
        let shown = handle.snapshot();
        assignment::spawn(Arc::clone(&self.artifacts), handle, std::future::ready(Ok(task)));
        Ok(shown)
    }

    /// A daemon that ends begins nothing.
    fn check_takes_work(&self) -> Result<(), ApiError> {
        if self.shutdown.is_cancelled() {
            let error = ApiError::new(ErrorKind::Unreachable, "bangerd is about to end")
                .fix("try again; the next command starts it anew");
            return Err(ApiError { refusal: Some(Refusal::Ending), ..error });
        }
        Ok(())
    }

    /// Returns a part of the operations, newest first, and the address of the next part.
    pub(crate) fn operations_page(
        &self,
        query: &PageQuery,
    ) -> Result<(Vec<Operation>, Option<String>), ApiError> {
        let wrong = |why: String| ApiError::new(ErrorKind::Usage, "cannot list operations").because(why);
        let limit = query.limit.unwrap_or(PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(wrong(format!("'limit' has to be a number from 1 to {LARGEST_PAGE}")));
        }
        let after = query.after.as_deref().map(str::parse).transpose();
        let after = after.map_err(|_| wrong("'after' is not the id of an operation".to_owned()))?;
        let page = Page { limit: limit + 1, after };
        // A read waits for nobody: another thread would take longer to wake than this takes.
        let mut items = in_place(|| self.context().operations.list(&page))
            .map_err(ApiError::from_store("list operations"))?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let last = items.last().filter(|_| more);
        let next = last.map(|last| format!("{}?limit={limit}&after={}", route::OPERATIONS, last.id));
        Ok((items, next))
    }

    /// Listens to what changes.
    pub(crate) async fn listen(&self, query: EventQuery) -> Result<(Listener, Filter), ApiError> {
        let mut filter = self.filter(&query)?;
        let after = query.after.as_deref();
        if !query.current {
            return Ok((self.context().events.listen(after, Vec::new), filter));
        }
        let mut listener = self.context().events.listen(after, || {
            let mut present = self.what_changes_often(&filter);
            present.retain(|change| filter.lets_through(change));
            present
        });
        listener.add(self.what_is_stored(&filter).await?);
        listener.add([Change::Current]);
        Ok((listener, filter))
    }

    fn filter(&self, query: &EventQuery) -> Result<Filter, ApiError> {
        let kinds = query.kind.as_deref().into_iter().flat_map(|kinds| kinds.split(','));
        let kind = |name: &str| {
            EventKind::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| {
                let all = EventKind::ALL.map(EventKind::as_str).join(", ");
                ApiError::new(ErrorKind::Usage, format!("there are no events of '{name}'"))
                    .fix(format!("choose among {all}"))
            })
        };
        let kinds = kinds.map(kind).collect::<Result<Vec<_>, _>>()?;
        let unknown = |id: &str| ApiError::not_found("operation", id);
        let operation = query.operation.as_deref();
        let operation = operation.map(|id| id.parse().map_err(|_| unknown(id))).transpose()?;
        if let Some(id) = operation.as_ref().filter(|_| query.current) {
            self.operations().get(id)?;
        }
        let vm = match &query.vm {
            None => None,
            Some(name) => Some(match self.find(name) {
                Ok(vm) => NamedVm { name: vm.snapshot().name.to_string(), id: Some(vm.id().to_string()) },
                Err(error) if query.current => return Err(error),
                Err(_) => NamedVm { name: name.clone(), id: None },
            }),
        };
        Ok(Filter { kinds, vm, operation })
    }

    /// Returns the operations that are under way, and the VMs.
    fn what_changes_often(&self, filter: &Filter) -> Vec<Change> {
        let mut present = Vec::new();
        if filter.wants(EventKind::Operation) {
            let running = self.operations().running().into_iter();
            present.extend(running.map(|operation| Change::Operation { operation: Box::new(operation) }));
        }
        if filter.wants(EventKind::Vm) {
            let vms = self.context().vms.list().into_iter();
            present.extend(vms.map(|vm| Change::Vm { vm: Box::new(vm) }));
        }
        present
    }

    /// Returns images and kernels, and the operation that is asked for if it has ended.
    async fn what_is_stored(&self, filter: &Filter) -> Result<Vec<Change>, ApiError> {
        let mut present = Vec::new();
        if let Some(id) = filter.operation.as_ref().filter(|_| filter.wants(EventKind::Operation)) {
            let operation = self.operations().get(id)?;
            if operation.status.is_final() {
                present.push(Change::Operation { operation: Box::new(operation) });
            }
        }
        if filter.wants(EventKind::Image) {
            let images = self.artifacts.images().await?.into_iter();
            present.extend(images.map(|image| Change::Image { image: Box::new(image) }));
        }
        if filter.wants(EventKind::Kernel) {
            let kernels = self.artifacts.kernels().await?.into_iter();
            present.extend(kernels.map(|kernel| Change::Kernel { kernel: Box::new(kernel) }));
        }
        Ok(present)
    }

    pub(crate) async fn start_vm(&self, name: &str, requester: Requester) -> Result<Operation, ApiError> {
        self.request(name, Request::Start, VmStopRequest::default(), requester).await
    }

    pub(crate) async fn stop_vm(
        &self,
        name: &str,
        stop: VmStopRequest,
        requester: Requester,
    ) -> Result<Operation, ApiError> {
        self.request(name, Request::Stop, stop, requester).await
    }

    pub(crate) async fn kill_vm(&self, name: &str, requester: Requester) -> Result<Operation, ApiError> {
        self.request(name, Request::Kill, VmStopRequest::default(), requester).await
    }

    pub(crate) async fn delete_vm(
        &self,
        name: &str,
        force: bool,
        requester: Requester,
    ) -> Result<Operation, ApiError> {
        self.request(name, Request::Delete { force }, VmStopRequest::default(), requester).await
    }

    pub(crate) async fn restart_vm(
        &self,
        name: &str,
        stop: VmStopRequest,
        requester: Requester,
    ) -> Result<Operation, ApiError> {
        self.request(name, Request::Restart, stop, requester).await
    }

    pub(crate) async fn pause_vm(&self, name: &str, requester: Requester) -> Result<Operation, ApiError> {
        self.request(name, Request::Pause, VmStopRequest::default(), requester).await
    }

    pub(crate) async fn resume_vm(&self, name: &str, requester: Requester) -> Result<Operation, ApiError> {
        self.request(name, Request::Resume, VmStopRequest::default(), requester).await
    }

    pub(crate) async fn trim_vm(&self, name: &str, requester: Requester) -> Result<Operation, ApiError> {
        self.request(name, Request::Trim, VmStopRequest::default(), requester).await
    }

    /// Changes what is wanted of a VM; with a generation, only if that is still the VM's.
    pub(crate) async fn set_vm(
        &self,
        name: &str,
        wanted: VmSetRequest,
        generation: Option<u64>,
    ) -> Result<Vm, ApiError> {
        let configured_vcpus = self.context().settings.last().configuration.vm.vcpus;
        let wanted = Box::new(wanted);
        let edit = Edit::Set { wanted, configured_vcpus };
        self.edited_vm(name, edit, generation).await
    }

    pub(crate) async fn rename_vm(
        &self,
        name: &str,
        request: &VmRenameRequest,
        generation: Option<u64>,
    ) -> Result<Vm, ApiError> {
        let handle = self.find(name)?;
        if handle.snapshot().name == request.name {
            return Ok(as_shown(handle.snapshot()));
        }
        let reservation = self.context().vms.reserve(&request.name)?;
        let vm = self.edited_vm(name, Edit::Rename(reservation), generation).await?;
        self.context().ssh.update(self.context()).await;
        Ok(vm)
    }

    async fn edited_vm(&self, name: &str, edit: Edit, generation: Option<u64>) -> Result<Vm, ApiError> {
        let handle = self.find(name)?;
        handle.edit(edit, generation).await?;
        Ok(as_shown(handle.snapshot()))
    }

    /// Returns the forwards of a VM: those in force, else those that it will have.
    pub(crate) fn forwards(&self, name: &str) -> Result<Vec<Forward>, ApiError> {
        let vm = self.find(name)?.snapshot();
        Ok(if vm.state.is_alive() { vm.forwards } else { vm.spec.forwards })
    }

    pub(crate) async fn add_forward(&self, name: &str, forward: Forward) -> Result<Forward, ApiError> {
        match self.find(name)?.edit(Edit::AddForward(forward.clone()), None).await? {
            Edited::Forward(forward) => Ok(forward),
            Edited::Done => Ok(forward),
        }
    }

    pub(crate) async fn remove_forward(&self, name: &str, listen: HostPort) -> Result<(), ApiError> {
        self.find(name)?.edit(Edit::RemoveForward(listen), None).await.map(drop)
    }

    pub(crate) async fn ssh_configuration(&self) -> Result<SshConfiguration, ApiError> {
        self.context().ssh.show(self.context()).await
    }

    async fn request(
        &self,
        name: &str,
        request: Request,
        stop: VmStopRequest,
        requester: Requester,
    ) -> Result<Operation, ApiError> {
        self.check_takes_work()?;
        self.find(name)?.request(request, stop, Origin::Own(requester)).await
    }

    /// Returns what a client needs to open a session. Waits for a VM that is still booting.
    pub(crate) async fn session(&self, name: &str) -> Result<SessionTarget, ApiError> {
        let handle = self.find(name)?;
        let mut watch = handle.watch();
        let gone = || ApiError::not_found("VM", name);
        let booted = watch.wait_for(|vm| vm.state != VmState::Starting);
        let vm = match tokio::time::timeout(self.context().settings.boot_limit(), booted).await {
            Ok(vm) => vm.map_err(|_| gone())?.clone(),
            Err(_) => handle.snapshot(),
        };
        if vm.state != VmState::Running {
            let error = ApiError::refused(Refusal::State, format!("cannot open a session in '{name}'"))
                .because(format!("it is {}", vm.state));
            let error = ApiError { why: error.why.into_iter().chain(vm.reason).collect(), ..error };
            return Err(match vm.state {
                VmState::Paused => error.fix(format!("`banger vm resume {name}`")),
                VmState::Stopped | VmState::Failed => error.fix(format!("`banger vm start {name}`")),
                VmState::Starting => error.fix(format!("see `banger vm logs {name}`")),
                _ => error,
            });
        }
        Ok(SessionTarget {
            monitor_socket: vm.directory.join(banger_types::monitor::file::SOCKET),
            identity_file: vm.directory.join(vm_file::IDENTITY),
            host_public_key: self.host_public_key(&vm.name).await?,
            default_user: default_user(&self.artifacts.images().await?, &vm.spec.image),
            id: vm.id,
            name: vm.name,
        })
    }

    /// Returns what a VM takes at this moment.
    pub(crate) async fn stats(&self, name: &str) -> Result<VmStats, ApiError> {
        let vm = self.vm(name)?;
        let (guest, host) =
            if vm.state.is_alive() { vm::look_at(self.context(), &vm.id).await? } else { (None, None) };
        Ok(VmStats {
            id: vm.id,
            name: vm.name,
            at: jiff::Timestamp::now(),
            vcpus: vm.spec.vcpus,
            guest,
            host,
            disk_allocated: vm.disk_usage,
        })
    }

    /// Returns the serial console of a VM whose VMM runs.
    pub(crate) async fn console(
        &self,
        name: &str,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, ApiError> {
        let vm = self.find(name)?.snapshot();
        let cannot =
            || ApiError::refused(Refusal::State, format!("cannot attach to the console of '{name}'"));
        if !vm.state.is_alive() {
            return Err(cannot()
                .because(format!("it is {}", vm.state))
                .fix(format!("`banger vm start {name}`")));
        }
        vm::console(self.context(), &vm.id).await.map_err(|error| cannot().because(error.to_string()))
    }

    /// Returns what listens in a VM that runs.
    pub(crate) async fn ports(&self, name: &str) -> Result<VmPorts, ApiError> {
        let vm = self.find(name)?.snapshot();
        if vm.state != VmState::Running {
            return Err(ApiError::refused(Refusal::State, format!("cannot see what listens in '{name}'"))
                .because(format!("it is {}", vm.state)));
        }
        vm::ports(self.context(), &self.spoken, &vm.id, vm.name.as_str()).await
    }

    async fn host_public_key(&self, name: &VmName) -> Result<String, ApiError> {
        let records = self.context().store("look for a VM", |store| store.vms()).await?;
        let record = records.into_iter().find(|record| record.name == *name);
        Ok(record.ok_or_else(|| ApiError::not_found("VM", name.as_str()))?.host_public_key)
    }
}

fn host_resources(vms: &[Vm], data: &Path) -> HostResources {
    let alive = || vms.iter().filter(|vm| vm.state.is_alive());
    HostResources {
        processors: std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        load_hundredths: banger_host::load_hundredths(),
        vcpus_promised: alive().map(|vm| u64::from(vm.spec.vcpus)).sum(),
        memory_total: banger_host::memory().map(banger_types::size::Mebibytes::bytes),
        memory_available: banger_host::available_memory(),
        memory_promised: alive().map(|vm| vm.spec.memory.bytes()).sum(),
        disk_total: banger_host::whole_space(data),
        disk_available: banger_host::free_space(data),
        disk_promised: vms.iter().map(|vm| vm.spec.disk.bytes()).sum(),
        disk_taken: vms.iter().map(|vm| vm.disk_usage).sum(),
    }
}

/// Adds what the host says of one VM: of its VMM as well, which takes a look at it that a list of many does not.
fn as_shown(mut vm: Vm) -> Vm {
    vm.isolation = vm.vmm_pid.and_then(|pid| match banger_host::control_group_of(&vm.directory) {
        Some(group) => banger_host::isolation_in_jail(&group),
        None => banger_host::isolation_of(pid)
            .map(|isolation| Isolation { files: vm::is_confined(&vm.directory), ..isolation }),
    });
    with_disk(vm)
}

/// Adds what the host's file system says of the VM's disk.
fn with_disk(mut vm: Vm) -> Vm {
    if let Ok(disk) = fs_err::metadata(vm.directory.join(vm_file::DISK)) {
        vm.disk_usage = disk.blocks() * 512;
    }
    vm.warnings.extend(vm::warn_of_disk(&vm.directory, vm.spec.disk, vm.disk_usage));
    vm
}
