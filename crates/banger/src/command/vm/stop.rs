//! `banger vm stop`.

use banger_types::guest::ShutdownAction;
use banger_types::vm::VmStopRequest;

use super::{Failures, Outcome, follow_and_print_vm};
use crate::arguments::StopArguments;
use crate::context::Context;

/// Stops VMs and prints the name of each.
pub(in crate::command) async fn stop(context: &Context, arguments: &StopArguments) -> Outcome {
    let client = context.daemon().await?;
    let request = VmStopRequest {
        timeout_ms: u64::try_from(arguments.timeout.as_millis()).unwrap_or(u64::MAX),
        action: ShutdownAction::Poweroff,
    };
    let mut failures = Failures::default();
    for name in &arguments.vms.names {
        let stopped = async {
            let operation = client.stop_vm(name, &request).await?;
            follow_and_print_vm(context, operation, arguments.vms.wait).await
        };
        failures.note(context, stopped.await)?;
    }
    failures.outcome()
}
