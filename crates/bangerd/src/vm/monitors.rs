//! Monitors as a VM's task and the daemon's start see them: whether they are there, what they said last, and their
//! end where they do not answer.

use std::path::Path;
use std::time::Duration;

use banger_core::vm::Observation;
use banger_host::{MonitorConnection, MonitorError, MonitorPresence, read_last_status};
use banger_types::monitor::MonitorPhase;
use banger_types::{ApiError, VmId};
use tokio::io::{AsyncRead, AsyncWrite};

use super::context::Context;
use super::task::Found;
use crate::failure::failed;

/// How long a daemon that begins waits for a monitor's word.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a VMM may take to end once it is killed: the kernel has to give its memory back.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// Connects to the monitor of a VM.
pub(super) fn open(context: &Context, id: &VmId) -> Result<MonitorConnection, MonitorError> {
    MonitorConnection::open(&context.layout.vm(id))
}

/// Returns the serial console of a VM.
pub(crate) async fn console(
    context: &Context,
    id: &VmId,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, MonitorError> {
    open(context, id)?.console().await
}

/// Looks for the monitor of the VM in `directory`.
pub(crate) async fn look(directory: &Path) -> Found {
    match banger_host::monitor_presence(directory, ANSWER_LIMIT).await {
        MonitorPresence::Absent => Found::AtRest,
        MonitorPresence::Mute => Found::Mute,
        MonitorPresence::Answering(connection) => match connection.watch().await {
            Ok(stream) => Found::Running(Box::new(stream)),
            Err(error) => {
                tracing::warn!(%error, ?directory, "a monitor does not tell its state");
                Found::Mute
            }
        },
    }
}

/// How a VM ended while nobody looked.
pub(crate) fn last_word(directory: &Path) -> Observation {
    match read_last_status(directory) {
        Some(status) if matches!(status.phase, MonitorPhase::Ended(_)) => Observation::Monitor(status.phase),
        Some(status) if banger_host::is_of_earlier_boot(&status) => Observation::HostWentDown,
        _ => Observation::MonitorLost,
    }
}

/// Ends whatever runs in a directory that belongs to no VM.
pub(crate) async fn kill_orphan(directory: &Path) -> Result<(), ApiError> {
    kill(directory)
        .await
        .map_err(|error| failed(format!("cannot end what runs in {}", directory.display()), &error))
}

/// Ends the VMM of the VM in `directory`, through its monitor; a monitor that does not answer is killed itself, and
/// takes its VMM along. Returns when neither is there.
pub(super) async fn kill(directory: &Path) -> Result<(), MonitorError> {
    match MonitorConnection::open(directory) {
        Ok(connection) => match ask_to_kill(connection).await {
            // It may have ended by itself in this very moment.
            Some(Ok(()) | Err(MonitorError::Connection(_))) => return Ok(()),
            Some(Err(error)) => tracing::warn!(%error, ?directory, "a monitor does not kill its VMM"),
            None => tracing::warn!(?directory, "a monitor does not answer, and is killed"),
        },
        Err(MonitorError::Unreachable(_) | MonitorError::Mute) => {}
        Err(error) => return Err(error),
    }
    banger_host::kill_monitor(directory, KILL_LIMIT).await
}

/// Returns `None` when the monitor does not answer. One that does may need a while for the VMM's end.
async fn ask_to_kill(mut connection: MonitorConnection) -> Option<Result<(), MonitorError>> {
    match connection.status().await {
        Err(MonitorError::Mute) => None,
        Ok(_) => tokio::time::timeout(KILL_LIMIT, connection.kill()).await.ok(),
        Err(error) => Some(Err(error)),
    }
}
