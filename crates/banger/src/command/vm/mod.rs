//! `banger vm …`: one file for each verb.

mod create;
mod exec;
mod kill;
mod list;
mod logs;
mod proxy;
mod remove;
mod run;
mod show;
mod ssh;
mod start;
mod stop;

use banger_types::operation::Operation;

use super::{DONE, Deleted, Failures, Outcome, confirm, follow_or_print, quoted};
use crate::arguments::WaitOptions;
use crate::context::Context;
use crate::error::CommandError;

pub(super) use create::create;
pub(super) use exec::exec;
pub(super) use kill::kill;
pub(super) use list::list;
pub(super) use logs::logs;
pub(super) use proxy::proxy;
pub(super) use remove::remove;
pub(super) use run::run;
pub(super) use show::show;
pub(super) use ssh::ssh;
pub(super) use start::start;
pub(super) use stop::stop;

/// Follows an operation on a VM, then prints the VM's name, or with `--json` the VM as it is now.
async fn follow_and_print_vm(
    context: &Context,
    operation: Operation,
    wait: WaitOptions,
) -> Result<(), CommandError> {
    let Some(operation) = follow_or_print(context, operation, wait).await? else {
        return Ok(());
    };
    if context.printer.is_json() {
        context.printer.item(&context.daemon().await?.vm(&operation.subject).await?)?;
    } else {
        context.printer.line(&operation.subject)?;
    }
    Ok(())
}
