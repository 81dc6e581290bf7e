//! What is made for whoever asks, from the request to the work: begun by one daemon, and gone on with by another.

use std::sync::Arc;

use banger_api::request::{EngineInstallRequest, KernelRegisterRequest, PullRequest, RegisterRequest};
use banger_core::work::Work as _;
use banger_types::operation::OperationKind;
use banger_types::space::PruneRequest;
use banger_types::vm::VmCreateRequest;
use banger_types::{ApiError, ImageId, KernelId};
use serde::{Deserialize, Serialize};

use crate::artifact::{Artifacts, Deletion, KernelRegistration, Registration, Wanted, is_read_once};
use crate::failure::cancelled;
use crate::operation::Handle;
use crate::vm::{self, Prepared, blocking};
use crate::{random, space};

/// How many daemons go on with the same thing, one after the other: it may be what ends them.
const MOST_DAEMONS: u32 = 5;

/// What is to be made, in so much detail that another daemon can make it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Assignment {
    CreateVm(VmCreateRequest),
    PullImage(PullRequest),
    RegisterImage(RegisterRequest),
    DeleteImage { id: ImageId, name: String },
    PullKernel(PullRequest),
    RegisterKernel(KernelRegisterRequest),
    DeleteKernel { id: KernelId, name: String },
    InstallEngine(EngineInstallRequest),
    Prune(PruneRequest),
}

impl Assignment {
    pub(crate) const fn kind(&self) -> OperationKind {
        match self {
            Self::CreateVm(_) => OperationKind::VmCreate,
            Self::PullImage(_) => OperationKind::ImagePull,
            Self::RegisterImage(_) => OperationKind::ImageRegister,
            Self::DeleteImage { .. } => OperationKind::ImageDelete,
            Self::PullKernel(_) => OperationKind::KernelPull,
            Self::RegisterKernel(_) => OperationKind::KernelRegister,
            Self::DeleteKernel { .. } => OperationKind::KernelDelete,
            Self::InstallEngine(_) => OperationKind::EngineInstall,
            Self::Prune(_) => OperationKind::Prune,
        }
    }

    /// Returns it with all that is left to us chosen, which would be another thing the next time.
    pub(crate) fn with_everything_chosen(mut self) -> Self {
        if let Self::CreateVm(request) = &mut self {
            request.name.get_or_insert_with(random::vm_name);
        }
        self
    }

    /// Returns whether another daemon can do it as well as this one.
    fn is_durable(&self) -> bool {
        match self {
            // One that is to go with its client has lost that by then.
            Self::CreateVm(request) if request.remove => false,
            Self::CreateVm(VmCreateRequest { image, .. }) => !image.as_deref().is_some_and(is_read_once),
            Self::PullImage(request) => !is_read_once(&request.source),
            // Who knows what nobody uses by then, and whether that would still be agreed to.
            Self::Prune(_) => false,
            _ => true,
        }
    }

    /// Returns what the next daemon is told, if it can go on with this.
    pub(crate) async fn to_hand_on(&self) -> Result<Option<String>, ApiError> {
        let assignment = self.clone();
        blocking("look at a source", move || {
            let handed_on = HandedOn { assignment, daemons: 1 };
            handed_on.assignment.is_durable().then(|| handed_on.to_text())
        })
        .await
    }

    /// Looks at every value of it before anything is done, and takes the name of a VM. `client` is the process that asks.
    pub(crate) async fn examine(self, artifacts: &Artifacts, client: u32) -> Result<Task, ApiError> {
        let look = "look at files";
        Ok(match self {
            Self::CreateVm(request) => {
                Task::CreateVm(Box::new(vm::prepare_request(artifacts, request, client)?))
            }
            Self::PullImage(request) => Task::PullImage(request),
            Self::RegisterImage(request) => {
                Task::RegisterImage(blocking(look, || Registration::of(request)).await??)
            }
            Self::PullKernel(request) => Task::PullKernel(request),
            Self::RegisterKernel(request) => {
                Task::RegisterKernel(blocking(look, || KernelRegistration::of(request)).await??)
            }
            Self::DeleteImage { id, name } => {
                Task::Delete { deletion: artifacts.doom_image(&id, &name).await?, name }
            }
            Self::DeleteKernel { id, name } => {
                Task::Delete { deletion: artifacts.doom_kernel(&id, &name).await?, name }
            }
            Self::InstallEngine(request) => Task::InstallEngine(request),
            Self::Prune(request) => Task::Prune(request),
        })
    }
}

/// What one daemon leaves to the next.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HandedOn {
    assignment: Assignment,
    /// How many have had it.
    daemons: u32,
}

impl HandedOn {
    /// Returns what was left, for one more daemon to do; nothing if that makes no sense (any more).
    pub(crate) fn take_up(text: &str) -> Option<Self> {
        let mut found: Self = serde_json::from_str(text)
            .inspect_err(|error| tracing::warn!(%error, "what an operation was to do is not understood"))
            .ok()?;
        found.daemons += 1;
        // Its files are not looked at: they may be where that takes long, and a daemon that begins waits for nobody.
        (found.daemons <= MOST_DAEMONS).then_some(found)
    }

    /// Returns it as it is remembered.
    pub(crate) fn to_text(&self) -> String {
        serde_json::json!(self).to_string()
    }

    pub(crate) fn into_assignment(self) -> Assignment {
        self.assignment
    }
}

/// What is to be made, every value of it looked at.
pub(crate) enum Task {
    CreateVm(Box<Prepared>),
    PullImage(PullRequest),
    RegisterImage(Registration),
    PullKernel(PullRequest),
    RegisterKernel(KernelRegistration),
    InstallEngine(EngineInstallRequest),
    Delete {
        /// Nothing if an earlier daemon has deleted it.
        deletion: Option<Deletion>,
        name: String,
    },
    Prune(PruneRequest),
}

impl Task {
    /// Returns what people call that of which it is done.
    pub(crate) fn subject(&self) -> String {
        match self {
            Self::CreateVm(prepared) => prepared.name.to_string(),
            Self::PullImage(PullRequest { source, name })
            | Self::PullKernel(PullRequest { source, name }) => name.as_ref().unwrap_or(source).clone(),
            Self::RegisterImage(registration) => registration.name.clone(),
            Self::RegisterKernel(registration) => registration.name.clone(),
            Self::InstallEngine(request) => request.engine.to_string(),
            Self::Delete { name, .. } => name.clone(),
            Self::Prune(request) => {
                let what = if request.rules.images_only { "images" } else { "everything" };
                what.to_owned()
            }
        }
    }

    /// Does it.
    async fn perform(self, artifacts: &Arc<Artifacts>, operation: &Arc<Handle>) -> Result<(), ApiError> {
        // What makes room waits for nothing.
        if !operation.snapshot().kind.makes_room() {
            artifacts.undo_the_rest().await;
        }
        match self {
            Self::CreateVm(prepared) => {
                let name = prepared.name.clone();
                let made = vm::create(artifacts, *prepared, operation).await?;
                operation.made(Some(made.as_str()), name.as_str());
            }
            Self::PullImage(PullRequest { source, name }) => {
                let image = artifacts.pull_image(&source, name.as_deref(), Wanted::Newest, operation).await?;
                operation.made(Some(image.id.as_str()), &image.name);
            }
            Self::RegisterImage(registration) => {
                let image = artifacts.register_image(registration, operation).await?;
                operation.made(Some(image.id.as_str()), &image.name);
            }
            Self::PullKernel(PullRequest { source, name }) => {
                let kernel = artifacts.pull_kernel(&source, name.as_deref(), operation).await?;
                operation.made(Some(kernel.id.as_str()), &kernel.name);
            }
            Self::RegisterKernel(registration) => {
                let kernel = artifacts.register_kernel(registration, operation).await?;
                operation.made(Some(kernel.id.as_str()), &kernel.name);
            }
            Self::InstallEngine(request) => artifacts.install_engine(request, operation).await?,
            Self::Delete { deletion: Some(deletion), .. } => {
                operation.stage(deletion.what());
                if !operation.forbid_cancel() {
                    return Err(cancelled(format!("cannot {}", deletion.what())));
                }
                artifacts.delete(&deletion).await?;
            }
            Self::Delete { deletion: None, .. } => {}
            Self::Prune(request) => space::prune(artifacts, &request, operation).await?,
        }
        Ok(())
    }
}

/// Does what `examined` comes to when it is the operation's turn, and ends the operation.
pub(crate) fn spawn(
    artifacts: Arc<Artifacts>,
    operation: Arc<Handle>,
    examined: impl Future<Output = Result<Task, ApiError>> + Send + 'static,
) {
    tokio::spawn(async move {
        let work = async {
            operation.turn().await?;
            examined.await?.perform(&artifacts, &operation).await
        };
        let result = work.await;
        operation.finish(result);
    });
}
