//! `banger vm trim`.

use super::{Outcome, each};
use crate::arguments::NamesArguments;
use crate::context::Context;

/// Gives back what VMs do not use of their disks and prints the name of each.
pub(in crate::command) async fn trim(context: &Context, arguments: &NamesArguments) -> Outcome {
    each(context, arguments, async |client, name| client.trim_vm(name).await).await
}
