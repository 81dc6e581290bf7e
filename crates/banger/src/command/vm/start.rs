//! `banger vm start`.

use super::{Failures, Outcome, follow_and_print_vm};
use crate::arguments::NamesArguments;
use crate::context::Context;

/// Boots VMs and prints the name of each once it serves sessions.
pub(in crate::command) async fn start(context: &Context, arguments: &NamesArguments) -> Outcome {
    let client = context.daemon().await?;
    let mut failures = Failures::default();
    for name in &arguments.names {
        let started = async {
            let operation = client.start_vm(name).await?;
            follow_and_print_vm(context, operation, arguments.wait).await
        };
        failures.note(context, started.await)?;
    }
    failures.outcome()
}
