//! `banger vm ls`.

use banger_types::monitor::Forward;
use banger_types::size::human_bytes;
use jiff::Timestamp;

use super::{DONE, Outcome};
use crate::arguments::VmListArguments;
use crate::context::Context;
use crate::printer::{Table, ago};

/// Lists VMs.
pub(in crate::command) async fn list(context: &Context, arguments: &VmListArguments) -> Outcome {
    let mut vms = context.daemon().await?.vms().await?;
    vms.retain(|vm| arguments.filters.iter().all(|filter| filter.matches(vm)));
    if context.printer.is_json() {
        context.printer.document(&vms)?;
    } else if arguments.quiet {
        context.printer.lines(vms.iter().map(|vm| vm.name.as_str()))?;
    } else {
        let now = Timestamp::now();
        let mut table = Table::new(["NAME", "STATE", "IMAGE", "VCPUS", "MEMORY", "DISK", "CREATED", "PORTS"]);
        for vm in vms {
            let ports: Vec<String> = vm.forwards.iter().map(forward).collect();
            table.row([
                vm.name.to_string(),
                vm.state.to_string(),
                vm.spec.image_name,
                vm.spec.vcpus.to_string(),
                vm.spec.memory.to_string(),
                format!("{} of {}", human_bytes(vm.disk_usage), vm.spec.disk),
                ago(vm.created_at, now),
                ports.join(", "),
            ]);
        }
        context.printer.table(&table)?;
    }
    Ok(DONE)
}

/// Returns a forward as Docker shows it: `127.0.0.1:8080->80`.
pub(super) fn forward(forward: &Forward) -> String {
    format!("{}->{}", forward.listen, forward.guest_port)
}
