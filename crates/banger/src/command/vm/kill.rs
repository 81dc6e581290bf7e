//! `banger vm kill`.

use super::{Failures, Outcome, follow_and_print_vm};
use crate::arguments::NamesArguments;
use crate::context::Context;

/// Stops VMs at once and prints the name of each.
pub(in crate::command) async fn kill(context: &Context, arguments: &NamesArguments) -> Outcome {
    let client = context.daemon().await?;
    let mut failures = Failures::default();
    for name in &arguments.names {
        let killed = async {
            let operation = client.kill_vm(name).await?;
            follow_and_print_vm(context, operation, arguments.wait).await
        };
        failures.note(context, killed.await)?;
    }
    failures.outcome()
}
