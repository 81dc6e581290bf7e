//! `banger vm cp`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{DONE, Outcome};
use crate::arguments::{CopyArguments, Place};
use crate::context::Context;
use crate::error::CommandError;
use crate::session::{SessionError, Signals};
use crate::sftp::{Sftp, SftpError};
use crate::transfer::{Ledger, Transfer};

/// How long a guest has to remove what an interrupt left unfinished.
const CLEAN_UP: Duration = Duration::from_secs(5);

/// Exit code when something was not copied.
const NOT_ALL: u8 = 1;

/// What is to be copied from where to where.
#[derive(Debug, PartialEq, Eq)]
enum Plan<'a> {
    Into { vm: &'a str, sources: Vec<PathBuf>, destination: &'a [u8] },
    OutOf { vm: &'a str, sources: Vec<Vec<u8>>, destination: &'a Path },
}

/// Copies files and directories into a VM, or out of it.
pub(in crate::command) async fn copy(context: &Context, arguments: &CopyArguments) -> Outcome {
    let plan = plan(&arguments.places)?;
    let (Plan::Into { vm, .. } | Plan::OutOf { vm, .. }) = plan;
    let target = context.daemon().await?.session(vm).await?;
    let in_vm = |error: SessionError| error.in_vm(target.name.as_str());
    let mut signals = Signals::new().map_err(in_vm)?;
    let opened = async {
        let user = arguments.user.as_deref();
        let (connection, stream) = banger_session::open_files(&target, user).await?;
        Ok::<_, SessionError>((connection, Sftp::open(stream).await.map_err(broken)?))
    };
    let (_connection, sftp) = tokio::select! {
        opened = opened => opened.map_err(in_vm)?,
        received = signals.terminating() => return Ok(received.exit_code()),
    };
    let ledger = Ledger::new(context.printer);
    let transfer = Transfer::new(&sftp, &ledger, vm, arguments.dereference);
    let ended = tokio::select! {
        copied = perform(&transfer, &plan) => copied.map(|()| None),
        received = signals.terminating() => Ok(Some(received)),
    };
    ledger.close();
    if let Some(received) = ended.map_err(|error| in_vm(broken(error)))? {
        clean_up(&sftp, &ledger).await;
        return Ok(received.exit_code());
    }
    let summary = ledger.summary();
    if context.printer.is_json() {
        context.printer.document(&summary)?;
    }
    // What is missing is told already.
    if summary.failed > 0 { Err(CommandError::Reported(NOT_ALL)) } else { Ok(DONE) }
}

async fn perform(transfer: &Transfer<'_>, plan: &Plan<'_>) -> Result<(), SftpError> {
    match plan {
        Plan::Into { sources, destination, .. } => transfer.upload(sources, destination).await,
        Plan::OutOf { sources, destination, .. } => transfer.download(sources, destination).await,
    }
}

/// Removes the unfinished files of an interrupted copy from the guest, if that still answers.
async fn clean_up(sftp: &Sftp, ledger: &Ledger) {
    let removed = async {
        for path in ledger.left_over() {
            drop(sftp.remove(&path).await);
        }
    };
    // A guest that is stuck keeps them; the user asked to end.
    drop(tokio::time::timeout(CLEAN_UP, removed).await);
}

fn broken(error: SftpError) -> SessionError {
    match error {
        SftpError::Lost => banger_session::SessionError::Lost.into(),
        other => SessionError::Files(other),
    }
}

fn plan(places: &[Place]) -> Result<Plan<'_>, CommandError> {
    let advice = "banger cp FILE NAME:PATH, or banger cp NAME:PATH FILE; a file with a colon is ./a:b";
    let usage = |what: &str| CommandError::usage(what, advice);
    let Some((destination, sources)) = places.split_last().filter(|(_, sources)| !sources.is_empty()) else {
        return Err(usage("a copy needs a source and a destination"));
    };
    match destination {
        Place::Vm { name, path } => {
            let host = |source: &Place| match source {
                Place::Host(path) => Some(path.clone()),
                Place::Vm { .. } => None,
            };
            let sources = sources.iter().map(host).collect::<Option<_>>();
            let sources = sources.ok_or_else(|| usage("one side of a copy is this host"))?;
            Ok(Plan::Into { vm: name, sources, destination: path })
        }
        Place::Host(destination) => {
            let Some(Place::Vm { name: vm, .. }) = sources.first() else {
                return Err(usage("one side of a copy is a VM"));
            };
            let guest = |source: &Place| match source {
                Place::Vm { name, path } if name == vm => Some(path.clone()),
                _ => None,
            };
            let sources = sources.iter().map(guest).collect::<Option<_>>();
            let sources = sources.ok_or_else(|| usage("all sources of a copy are in one VM"))?;
            Ok(Plan::OutOf { vm, sources, destination })
        }
    }
}
