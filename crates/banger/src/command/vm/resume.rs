//! `banger vm resume`.

use super::{Outcome, each};
use crate::arguments::NamesArguments;
use crate::context::Context;

/// Lets paused VMs go on and prints the name of each.
pub(in crate::command) async fn resume(context: &Context, arguments: &NamesArguments) -> Outcome {
    each(context, arguments, async |client, name| client.resume_vm(name).await).await
}
