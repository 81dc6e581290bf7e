//! `banger vm start`.

use super::{Outcome, each};
use crate::arguments::NamesArguments;
use crate::context::Context;

/// Boots VMs and prints the name of each once it serves sessions.
pub(in crate::command) async fn start(context: &Context, arguments: &NamesArguments) -> Outcome {
    each(context, arguments, async |client, name| client.start_vm(name).await).await
}
