//! `banger vm restart`.

use super::{Outcome, each, stop};
use crate::arguments::StopArguments;
use crate::context::Context;

/// Stops VMs, boots them again, and prints the name of each once it serves sessions.
pub(in crate::command) async fn restart(context: &Context, arguments: &StopArguments) -> Outcome {
    let request = stop::request(arguments);
    each(context, &arguments.vms, async |client, name| client.restart_vm(name, &request).await).await
}
