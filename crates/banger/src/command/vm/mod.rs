//! `banger vm …`: one file for each verb.

mod console;
mod copy;
mod create;
mod exec;
mod forward;
mod kill;
mod list;
mod logs;
mod pause;
mod ports;
mod proxy;
mod remove;
mod rename;
mod restart;
mod resume;
mod run;
mod set;
mod show;
mod ssh;
mod start;
mod stats;
mod stop;
mod trim;
mod wait;

use banger_api::{Client, ClientError};
use banger_types::operation::Operation;
use banger_types::vm::Vm;

use super::{DONE, Deleted, Failures, Outcome, confirm, follow_or_print, quoted};
use crate::arguments::{NamesArguments, WaitOptions};
use crate::context::Context;
use crate::error::CommandError;

pub(super) use console::console;
pub(super) use copy::copy;
pub(super) use create::create;
pub(super) use exec::exec;
pub(super) use forward::{add_forwards, list_forwards, remove_forwards};
pub(super) use kill::kill;
pub(super) use list::list;
pub(super) use logs::logs;
pub(super) use pause::pause;
pub(super) use ports::ports;
pub(super) use proxy::proxy;
pub(super) use remove::remove;
pub(super) use rename::rename;
pub(super) use restart::restart;
pub(super) use resume::resume;
pub(super) use run::run;
pub(super) use set::set;
pub(super) use show::show;
pub(super) use ssh::ssh;
pub(super) use start::start;
pub(super) use stats::{stats, top};
pub(super) use stop::stop;
pub(super) use trim::trim;
pub(super) use wait::wait;

/// Begins the same operation on each VM, one after the other, follows it, and prints the VM.
async fn each(
    context: &Context,
    arguments: &NamesArguments,
    begin: impl AsyncFn(&Client, &str) -> Result<Operation, ClientError>,
) -> Outcome {
    let client = context.daemon().await?;
    let mut failures = Failures::default();
    let names = &arguments.names;
    for (index, name) in names.iter().enumerate() {
        let done = async {
            let operation = begin(client, name).await?;
            follow_and_print_vm(context, operation, arguments.wait).await
        };
        failures.note_one_of(context, done.await, &names[index + 1..])?;
    }
    failures.outcome()
}

/// Prints a VM's name, or with `--json` the VM.
fn print_vm(context: &Context, vm: &Vm) -> Result<(), CommandError> {
    if context.printer.is_json() {
        context.printer.item(vm)?;
    } else {
        context.printer.line(vm.name.as_str())?;
    }
    Ok(())
}

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
