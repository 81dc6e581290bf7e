//! The daemon as one object: what the API (and whatever comes beside it) calls.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use banger_api::request::{EngineInstallRequest, KernelRegisterRequest, PullRequest, RegisterRequest};
use banger_core::vm::Request;
use banger_types::monitor::Forward;
use banger_types::operation::{Operation, OperationKind};
use banger_types::space::{PruneRequest, Pruned, SpaceUsage};
use banger_types::system::SystemStatus;
use banger_types::vm::{
    SessionTarget, SshConfiguration, Vm, VmCreateRequest, VmRenameRequest, VmSetRequest, VmState,
    VmStopRequest,
};
use banger_types::{ApiError, ErrorKind, VmName};
use tokio_util::sync::CancellationToken;

use crate::artifact::{Artifacts, KernelRegistration, Registration, Wanted};
use crate::failure::FromStore as _;
use crate::layout::vm_file;
use crate::operation::{Handle, Operations};
use crate::space;
use crate::ssh::default_user;
use crate::vm::{self, Context, Edit, Edited, Origin, VmHandle, blocking};

/// Everything that can be asked of the daemon.
pub(crate) struct Daemon {
    artifacts: Arc<Artifacts>,
    socket: PathBuf,
    started_at: jiff::Timestamp,
    shutdown: CancellationToken,
    /// Directories of VMs that the database did not know at start.
    unknown_vms: Vec<PathBuf>,
}

impl Daemon {
    pub(crate) fn new(artifacts: Arc<Artifacts>, socket: PathBuf, unknown_vms: Vec<PathBuf>) -> Self {
        let shutdown = CancellationToken::new();
        Self { artifacts, socket, started_at: jiff::Timestamp::now(), shutdown, unknown_vms }
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
        Ok(SystemStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            socket: self.socket.clone(),
            data_directory: layout.data().to_owned(),
            log: layout.log(),
            engine: self.context().describe_engine(),
            vms: vms.len() as u64,
            vms_running: vms.iter().filter(|vm| vm.state == VmState::Running).count() as u64,
            // Their owner may have taken them away meanwhile.
            unknown_vms: self.unknown_vms.iter().filter(|directory| directory.exists()).cloned().collect(),
            images: self.artifacts.images().await?.len() as u64,
            kernels: self.artifacts.kernels().await?.len() as u64,
            started_at: self.started_at,
        })
    }

    pub(crate) async fn space(&self) -> Result<SpaceUsage, ApiError> {
        space::usage(&self.artifacts).await
    }

    pub(crate) async fn prune(&self, request: &PruneRequest) -> Result<Pruned, ApiError> {
        space::prune(&self.artifacts, request).await
    }

    pub(crate) fn vms(&self) -> Vec<Vm> {
        self.context().vms.list().into_iter().map(with_disk).collect()
    }

    pub(crate) fn vm(&self, name: &str) -> Result<Vm, ApiError> {
        Ok(with_disk(self.find(name)?.snapshot()))
    }

    fn find(&self, name: &str) -> Result<VmHandle, ApiError> {
        self.context().vms.find(name)
    }

    /// Begins to make a VM. `client` is the process that asks.
    pub(crate) fn create_vm(&self, request: VmCreateRequest, client: u32) -> Result<Operation, ApiError> {
        let prepared = vm::prepare_request(&self.artifacts, request, client)?;
        let handle = self.begin(OperationKind::VmCreate, prepared.name.as_str())?;
        let (artifacts, operation) = (Arc::clone(&self.artifacts), Arc::clone(&handle));
        tokio::spawn(async move {
            let result = vm::create(&artifacts, prepared, &operation).await;
            operation.finish(result);
        });
        Ok(handle.snapshot())
    }

    fn begin(&self, kind: OperationKind, subject: &str) -> Result<Arc<Handle>, ApiError> {
        if self.shutdown.is_cancelled() {
            return Err(ApiError::new(ErrorKind::Unreachable, "bangerd is about to end")
                .fix("try again; the next command starts it anew"));
        }
        self.operations().begin(kind, subject, None).map_err(ApiError::from_store("begin an operation"))
    }

    pub(crate) async fn start_vm(&self, name: &str) -> Result<Operation, ApiError> {
        self.request(name, Request::Start, VmStopRequest::default()).await
    }

    pub(crate) async fn stop_vm(&self, name: &str, stop: VmStopRequest) -> Result<Operation, ApiError> {
        self.request(name, Request::Stop, stop).await
    }

    pub(crate) async fn kill_vm(&self, name: &str) -> Result<Operation, ApiError> {
        self.request(name, Request::Kill, VmStopRequest::default()).await
    }

    pub(crate) async fn delete_vm(&self, name: &str, force: bool) -> Result<Operation, ApiError> {
        self.request(name, Request::Delete { force }, VmStopRequest::default()).await
    }

    pub(crate) async fn restart_vm(&self, name: &str, stop: VmStopRequest) -> Result<Operation, ApiError> {
        self.request(name, Request::Restart, stop).await
    }

    pub(crate) async fn pause_vm(&self, name: &str) -> Result<Operation, ApiError> {
        self.request(name, Request::Pause, VmStopRequest::default()).await
    }

    pub(crate) async fn resume_vm(&self, name: &str) -> Result<Operation, ApiError> {
        self.request(name, Request::Resume, VmStopRequest::default()).await
    }

    pub(crate) async fn trim_vm(&self, name: &str) -> Result<Operation, ApiError> {
        self.request(name, Request::Trim, VmStopRequest::default()).await
    }

    pub(crate) async fn set_vm(&self, name: &str, wanted: VmSetRequest) -> Result<Vm, ApiError> {
        let configured_vcpus = self.artifacts.defaults().vcpus;
        let wanted = Box::new(wanted);
        let edit = Edit::Set { wanted, configured_vcpus };
        self.edited_vm(name, edit).await
    }

    pub(crate) async fn rename_vm(&self, name: &str, request: &VmRenameRequest) -> Result<Vm, ApiError> {
        let handle = self.find(name)?;
        if handle.snapshot().name == request.name {
            return Ok(with_disk(handle.snapshot()));
        }
        let reservation = self.context().vms.reserve(&request.name)?;
        let vm = self.edited_vm(name, Edit::Rename(reservation)).await?;
        self.context().ssh.update(self.context()).await;
        Ok(vm)
    }

    async fn edited_vm(&self, name: &str, edit: Edit) -> Result<Vm, ApiError> {
        let handle = self.find(name)?;
        handle.edit(edit).await?;
        Ok(with_disk(handle.snapshot()))
    }

    /// Returns the forwards of a VM: those in force, else those that it will have.
    pub(crate) fn forwards(&self, name: &str) -> Result<Vec<Forward>, ApiError> {
        let vm = self.find(name)?.snapshot();
        Ok(if vm.state.is_alive() { vm.forwards } else { vm.spec.forwards })
    }

    pub(crate) async fn add_forward(&self, name: &str, forward: Forward) -> Result<Forward, ApiError> {
        match self.find(name)?.edit(Edit::AddForward(forward.clone())).await? {
            Edited::Forward(forward) => Ok(forward),
            Edited::Done => Ok(forward),
        }
    }

    pub(crate) async fn remove_forward(
        &self,
        name: &str,
        listen: std::net::SocketAddr,
    ) -> Result<(), ApiError> {
        self.find(name)?.edit(Edit::RemoveForward(listen)).await.map(drop)
    }

    /// Returns a VM's states as they change.
    pub(crate) fn watch_vm(&self, name: &str) -> Result<tokio::sync::watch::Receiver<Vm>, ApiError> {
        Ok(self.find(name)?.watch())
    }

    pub(crate) async fn ssh_configuration(&self) -> Result<SshConfiguration, ApiError> {
        self.context().ssh.show(self.context()).await
    }

    async fn request(
        &self,
        name: &str,
        request: Request,
        stop: VmStopRequest,
    ) -> Result<Operation, ApiError> {
        self.find(name)?.request(request, stop, Origin::Own).await
    }

    /// Returns what a client needs to open a session. Waits for a VM that is still booting.
    pub(crate) async fn session(&self, name: &str) -> Result<SessionTarget, ApiError> {
        let handle = self.find(name)?;
        let mut watch = handle.watch();
        let gone = || ApiError::not_found("VM", name);
        let booted = watch.wait_for(|vm| vm.state != VmState::Starting);
        let vm = match tokio::time::timeout(self.context().boot_limit, booted).await {
            Ok(vm) => vm.map_err(|_| gone())?.clone(),
            Err(_) => handle.snapshot(),
        };
        if vm.state != VmState::Running {
            let error = ApiError::new(ErrorKind::Conflict, format!("cannot open a session in '{name}'"))
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

    async fn host_public_key(&self, name: &VmName) -> Result<String, ApiError> {
        let records = self.context().store("look for a VM", |store| store.vms()).await?;
        let record = records.into_iter().find(|record| record.name == *name);
        Ok(record.ok_or_else(|| ApiError::not_found("VM", name.as_str()))?.host_public_key)
    }

    pub(crate) fn pull_image(&self, request: PullRequest) -> Result<Operation, ApiError> {
        let subject = request.name.as_deref().unwrap_or(&request.source);
        let handle = self.begin(OperationKind::ImagePull, subject)?;
        let (artifacts, operation) = (Arc::clone(&self.artifacts), Arc::clone(&handle));
        tokio::spawn(async move {
            let name = request.name.as_deref();
            let pulled = artifacts.pull_image(&request.source, name, Wanted::Newest, &operation).await;
            operation.finish(pulled.map(drop));
        });
        Ok(handle.snapshot())
    }

    pub(crate) async fn register_image(&self, request: RegisterRequest) -> Result<Operation, ApiError> {
        let registration = blocking("look at files", || Registration::of(request)).await??;
        let handle = self.begin(OperationKind::ImageRegister, &registration.name)?;
        let (artifacts, operation) = (Arc::clone(&self.artifacts), Arc::clone(&handle));
        tokio::spawn(async move {
            let registered = artifacts.register_image(registration, &operation).await;
            operation.finish(registered.map(drop));
        });
        Ok(handle.snapshot())
    }

    pub(crate) fn pull_kernel(&self, request: PullRequest) -> Result<Operation, ApiError> {
        let subject = request.name.as_deref().unwrap_or(&request.source);
        let handle = self.begin(OperationKind::KernelPull, subject)?;
        let (artifacts, operation) = (Arc::clone(&self.artifacts), Arc::clone(&handle));
        tokio::spawn(async move {
            let pulled = artifacts.pull_kernel(&request.source, request.name.as_deref(), &operation).await;
            operation.finish(pulled.map(drop));
        });
        Ok(handle.snapshot())
    }

    pub(crate) async fn register_kernel(
        &self,
        request: KernelRegisterRequest,
    ) -> Result<Operation, ApiError> {
        let registration = blocking("look at files", || KernelRegistration::of(request)).await??;
        let handle = self.begin(OperationKind::KernelRegister, &registration.name)?;
        let (artifacts, operation) = (Arc::clone(&self.artifacts), Arc::clone(&handle));
        tokio::spawn(async move {
            let registered = artifacts.register_kernel(registration, &operation).await;
            operation.finish(registered.map(drop));
        });
        Ok(handle.snapshot())
    }

    pub(crate) fn install_engine(&self, request: EngineInstallRequest) -> Result<Operation, ApiError> {
        let handle = self.begin(OperationKind::EngineInstall, &request.engine.to_string())?;
        let (artifacts, operation) = (Arc::clone(&self.artifacts), Arc::clone(&handle));
        tokio::spawn(async move {
            let installed = artifacts.install_engine(request, &operation).await;
            operation.finish(installed);
        });
        Ok(handle.snapshot())
    }
}

/// Adds what the host's file system says of the VM's disk.
fn with_disk(mut vm: Vm) -> Vm {
    if let Ok(disk) = fs_err::metadata(vm.directory.join(vm_file::DISK)) {
        vm.disk_usage = disk.blocks() * 512;
    }
    vm.warnings.extend(vm::warn_of_disk(&vm.directory, vm.spec.disk, vm.disk_usage));
    vm
}
