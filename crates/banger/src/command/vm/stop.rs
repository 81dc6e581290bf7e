//! `banger vm stop`.

use banger_types::guest::ShutdownAction;
use banger_types::vm::VmStopRequest;

use super::{Outcome, each};
use crate::arguments::StopArguments;
use crate::context::Context;

/// Stops VMs and prints the name of each.
pub(in crate::command) async fn stop(context: &Context, arguments: &StopArguments) -> Outcome {
    let request = request(arguments);
    each(context, &arguments.vms, async |client, name| client.stop_vm(name, &request).await).await
}

/// Returns what the daemon is asked.
pub(super) fn request(arguments: &StopArguments) -> VmStopRequest {
    VmStopRequest {
        timeout_ms: u64::try_from(arguments.timeout.as_millis()).unwrap_or(u64::MAX),
        action: ShutdownAction::Poweroff,
    }
}
