//! `banger vm rename`.

use banger_types::vm::VmRenameRequest;

use super::{DONE, Outcome, print_vm};
use crate::arguments::RenameArguments;
use crate::context::Context;

/// Gives a VM another name and prints that.
pub(in crate::command) async fn rename(context: &Context, arguments: RenameArguments) -> Outcome {
    let request = VmRenameRequest { name: arguments.new_name };
    let vm = context.daemon().await?.rename_vm(&arguments.name, &request).await?;
    print_vm(context, &vm)?;
    Ok(DONE)
}
