//! `banger vm kill`.

use super::{Outcome, each};
use crate::arguments::NamesArguments;
use crate::context::Context;

/// Stops VMs at once and prints the name of each.
pub(in crate::command) async fn kill(context: &Context, arguments: &NamesArguments) -> Outcome {
    each(context, arguments, async |client, name| client.kill_vm(name).await).await
}
