//! Questions to a running QEMU, over QMP.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use banger_core::engine::{EngineError, VmmStatus};
use banger_types::monitor::{SocketQuestion, SocketRequest};
use banger_types::vm::Accelerator;
use qapi::Qmp;
use qapi::qmp::{RunState, cont, query_kvm, query_status, stop};

use super::arguments::QMP_SOCKET;
use crate::socket;

/// How long QEMU may take for one answer. It answers from its main loop, in which nothing blocks
/// for long; more than this means that it hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

type AnyError = Box<dyn std::error::Error + Send + Sync>;

pub(super) fn inspect(directory: &Path) -> Result<VmmStatus, EngineError> {
    ask(directory, |qmp| {
        let status = qmp.execute(&query_status {})?;
        let kvm = qmp.execute(&query_kvm {})?;
        Ok(VmmStatus {
            running: status.status == RunState::running,
            // `werror=enospc` stops for want of room, and for nothing else.
            out_of_space: status.status == RunState::io_error,
            accelerator: if kvm.enabled { Accelerator::Kvm } else { Accelerator::Tcg },
        })
    })
}

/// QMP `stop` answers when the virtual CPUs stand still and what they had written is flushed.
pub(super) fn pause(directory: &Path) -> Result<(), EngineError> {
    ask(directory, |qmp| Ok(qmp.execute(&stop {}).map(drop)?))
}

pub(super) fn resume(directory: &Path) -> Result<(), EngineError> {
    ask(directory, |qmp| Ok(qmp.execute(&cont {}).map(drop)?))
}

/// The same as [`resume`], for who speaks no QMP.
pub(super) fn resume_request() -> SocketRequest {
    request("cont")
}

/// Whether the virtual CPUs stand still, for who speaks no QMP (QMP reference, `RunState`).
pub(super) fn standing_question() -> SocketQuestion {
    let yes = ["paused", "io-error"].map(|state| format!("\"status\":\"{state}\"")).to_vec();
    SocketQuestion { ask: request("query-status"), yes, no: vec!["\"running\":true".to_owned()] }
}

fn request(command: &str) -> SocketRequest {
    // The greeting need not be waited for: QEMU reads what was sent before it as well.
    let request = format!("{{\"execute\":\"qmp_capabilities\"}}\n{{\"execute\":\"{command}\"}}\n");
    SocketRequest { socket: QMP_SOCKET.into(), request }
}

type Connection<'a> = Qmp<qapi::Stream<std::io::BufReader<&'a UnixStream>, &'a UnixStream>>;

fn ask<T>(
    directory: &Path,
    questions: impl FnOnce(&mut Connection<'_>) -> Result<T, AnyError>,
) -> Result<T, EngineError> {
    let asked = || {
        let stream = socket::connect(directory, QMP_SOCKET)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        let mut qmp = Qmp::from_stream(&stream);
        qmp.handshake()?;
        questions(&mut qmp)
    };
    asked().map_err(|source| EngineError::Control { directory: directory.to_owned(), source })
}
