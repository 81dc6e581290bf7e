//! `banger vm logs`.

use banger_api::request::{LogKind, LogQuery};

use super::{DONE, Outcome};
use crate::arguments::LogsArguments;
use crate::context::Context;

/// Prints one of a VM's logs.
pub(in crate::command) async fn logs(context: &Context, arguments: &LogsArguments) -> Outcome {
    let kind = if arguments.boot {
        LogKind::Boot
    } else if arguments.engine {
        LogKind::Engine
    } else if arguments.monitor {
        LogKind::Monitor
    } else {
        LogKind::Serial
    };
    let query = LogQuery { kind, follow: arguments.follow, lines: arguments.lines };
    let mut pieces = context.daemon().await?.vm_logs(&arguments.name, query).await?;
    let mut log = context.printer.log();
    while let Some(piece) = pieces.next().await? {
        log.write(&piece)?;
    }
    log.finish()?;
    Ok(DONE)
}
