//! `banger vm pause`.

use super::{Outcome, each};
use crate::arguments::NamesArguments;
use crate::context::Context;

/// Makes VMs stand still and prints the name of each.
pub(in crate::command) async fn pause(context: &Context, arguments: &NamesArguments) -> Outcome {
    each(context, arguments, async |client, name| client.pause_vm(name).await).await
}
