//! `banger vm set`.

use std::collections::BTreeMap;

use banger_types::vm::VmSetRequest;

use super::{DONE, Outcome, print_vm};
use crate::arguments::{Changes, SetArguments};
use crate::context::Context;
use crate::error::CommandError;

/// Changes what is wanted of a VM and prints its name.
pub(in crate::command) async fn set(context: &Context, arguments: SetArguments) -> Outcome {
    let request = request(arguments.changes)?;
    let vm = context.daemon().await?.set_vm(&arguments.name, &request).await?;
    print_vm(context, &vm)?;
    vm.warnings.iter().for_each(|warning| context.printer.warning(warning));
    Ok(DONE)
}

fn request(changes: Changes) -> Result<VmSetRequest, CommandError> {
    let mut labels: BTreeMap<String, Option<String>> =
        changes.labels.into_iter().map(|(name, value)| (name, Some(value))).collect();
    for name in changes.removed_labels {
        if labels.get(&name).is_some_and(Option::is_some) {
            return Err(CommandError::usage(
                format!("the label '{name}' is to be set and to be taken away"),
                format!("--label {name}=VALUE, or --remove-label {name}"),
            ));
        }
        labels.insert(name, None);
    }
    Ok(VmSetRequest {
        vcpus: changes.vcpus,
        memory: changes.memory,
        disk: changes.disk,
        engine: changes.engine,
        restart: changes.restart.map(Into::into),
        automatic_forwards: changes.automatic_forwards.map(Into::into),
        network: changes.network.map(Into::into),
        allow_host: changes.allow_host.map(Into::into),
        no_peers: changes.no_peers.map(Into::into),
        labels,
    })
}
