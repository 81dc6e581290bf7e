//! `banger vm show`.

use banger_types::size::human_bytes;
use banger_types::vm::{Isolation, Vm};
use jiff::Timestamp;

use super::list::forward;
use super::{DONE, Outcome};
use crate::arguments::NameArguments;
use crate::context::Context;
use crate::printer::{Table, ago, until};

/// Shows everything about a VM.
pub(in crate::command) async fn show(context: &Context, arguments: &NameArguments) -> Outcome {
    let vm = context.daemon().await?.vm(&arguments.name).await?;
    if context.printer.is_json() {
        context.printer.document(&vm)?;
    } else {
        context.printer.table(&properties(&vm, Timestamp::now()))?;
    }
    Ok(DONE)
}

fn properties(vm: &Vm, now: Timestamp) -> Table {
    let mut table = Table::of_properties();
    table.property("Name", vm.name.to_string());
    table.property("Id", vm.id.to_string());
    table.property("State", vm.state.to_string());
    table.properties("Reason", &vm.reason);
    table.properties("Warning", &vm.warnings);
    table.properties("Restarts", vm.restart_at.map(|then| until(then, now)));
    table.property("Image", format!("{} ({})", vm.spec.image_name, vm.spec.image));
    table.property("Kernel", format!("{} ({})", vm.spec.kernel_name, vm.spec.kernel));
    table.property("vCPUs", vm.spec.vcpus.to_string());
    table.property("Memory", vm.spec.memory.to_string());
    table.property("Disk", format!("{} of {}", human_bytes(vm.disk_usage), vm.spec.disk));
    table.property("Network", vm.describe_network());
    if let Some(addresses) = &vm.addresses {
        table.property("Addresses", addresses.v4.to_string());
        table.properties("Addresses", addresses.v6);
        table.property("Host name", addresses.name.clone());
    }
    table.property("Engine", vm.describe_engine());
    table.property("Restart", vm.spec.restart.to_string());
    if vm.spec.service {
        table.property("Service", "the image's own command, from every boot on");
    }
    table.property("Created", ago(vm.created_at, now));
    table.properties("Started", vm.started_at.map(|then| ago(then, now)));
    table.properties("Process", vm.vmm_pid);
    table.properties("Isolation", vm.isolation.map(Isolation::describe));
    table.properties("Ports", vm.shown_forwards().iter().map(forward));
    table.properties("Automatic ports", vm.automatic_forwards.iter().map(forward));
    if !vm.spec.automatic_forwards {
        table.property("Automatic ports", "off");
    }
    table.properties("Environment", &vm.spec.environment);
    table.properties("Labels", vm.spec.labels.iter().map(label));
    if vm.spec.remove {
        table.property("Deleted", "when it ends, or the client that made it does");
    }
    table.property("Directory", vm.directory.display().to_string());
    table
}

/// Returns a label as it is typed.
fn label((name, value): (&String, &String)) -> String {
    if value.is_empty() { name.clone() } else { format!("{name}={value}") }
}
