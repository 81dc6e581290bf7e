//! The way to a VM's task.

use std::sync::Arc;

use banger_core::vm::Request;
use banger_types::operation::Operation;
use banger_types::vm::{Vm, VmStopRequest};
use banger_types::{ApiError, Refusal, VmId};
use tokio::sync::{mpsc, oneshot, watch};

use super::edit::{Edit, Edited};
use crate::operation::{Handle, Requester};

/// Whose operation a request is part of.
pub(crate) enum Origin {
    /// It gets one of its own.
    Own(Requester),
    /// It is a part of this one, which goes on when it hears how the request ended.
    PartOf(Arc<Handle>, oneshot::Sender<Result<(), ApiError>>),
}

/// Something asked of a VM's task.
pub(super) enum Message {
    /// Work that takes a while: it becomes, or is part of, an operation.
    Request(Asked),
    /// A change of what is wanted, done at once; with a generation, only if that is still the VM's.
    Edit(Edit, Option<u64>, oneshot::Sender<Result<Edited, ApiError>>),
}

/// A request and who wants it.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) stop: VmStopRequest,
    pub(super) origin: Origin,
    pub(super) admitted: oneshot::Sender<Result<Operation, ApiError>>,
}

/// A way to a VM's task.
#[derive(Clone)]
pub(crate) struct VmHandle {
    id: VmId,
    messages: mpsc::Sender<Message>,
    published: watch::Receiver<Vm>,
}

impl VmHandle {
    pub(super) const fn new(
        id: VmId,
        messages: mpsc::Sender<Message>,
        published: watch::Receiver<Vm>,
    ) -> Self {
        Self { id, messages, published }
    }

    pub(crate) const fn id(&self) -> &VmId {
        &self.id
    }

    /// Returns what is shown of the VM.
    pub(crate) fn snapshot(&self) -> Vm {
        self.published.borrow().clone()
    }

    /// Returns what is shown of the VM, and its changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Vm> {
        self.published.clone()
    }

    /// Asks for something. Returns the operation that does it, or why it is not let through.
    pub(crate) async fn request(
        &self,
        request: Request,
        stop: VmStopRequest,
        origin: Origin,
    ) -> Result<Operation, ApiError> {
        let (admitted, answer) = oneshot::channel();
        self.send(Message::Request(Asked { request, stop, origin, admitted }))?;
        answer.await.map_err(|_| self.gone())?
    }

    /// Asks for something as a part of `operation` and on its terms, and waits for its end.
    pub(crate) async fn request_within(
        &self,
        request: Request,
        operation: &Arc<Handle>,
    ) -> Result<(), ApiError> {
        let (done, end) = oneshot::channel();
        let origin = Origin::PartOf(Arc::clone(operation), done);
        let stop = operation.snapshot().stop.unwrap_or_default();
        self.request(request, stop, origin).await?;
        end.await.map_err(|_| self.gone())?
    }

    /// Changes what is wanted of the VM; with a generation, only if that is still the VM's.
    pub(crate) async fn edit(&self, edit: Edit, generation: Option<u64>) -> Result<Edited, ApiError> {
        let (done, answer) = oneshot::channel();
        self.send(Message::Edit(edit, generation, done))?;
        answer.await.map_err(|_| self.gone())?
    }

    fn send(&self, message: Message) -> Result<(), ApiError> {
        self.messages.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                ApiError::refused(Refusal::Busy, "too many requests for one VM are waiting")
            }
            mpsc::error::TrySendError::Closed(_) => self.gone(),
        })
    }

    fn gone(&self) -> ApiError {
        ApiError::not_found("VM", self.snapshot().name.as_str())
    }
}
