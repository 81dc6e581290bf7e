//! `banger vm ports`.

use std::io::IsTerminal as _;
use std::time::Duration;

use banger_types::port::{VmPort, VmPorts};
use tokio::time::MissedTickBehavior;

use super::{DONE, Outcome};
use crate::arguments::PortsArguments;
use crate::context::Context;
use crate::printer::Table;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Prints what listens in a VM, once, or again whenever it has changed.
pub(in crate::command) async fn ports(context: &Context, arguments: &PortsArguments) -> Outcome {
    let client = context.daemon().await?;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let redraws = arguments.watch && !context.printer.is_json() && std::io::stdout().is_terminal();
    let mut shown: Option<VmPorts> = None;
    loop {
        ticks.tick().await;
        let ports = client.vm_ports(&arguments.name).await?;
        if shown.as_ref() != Some(&ports) {
            if redraws {
                context.printer.clear()?;
            }
            match (context.printer.is_json(), arguments.watch) {
                (true, true) => context.printer.item(&ports)?,
                (true, false) => context.printer.document(&ports)?,
                (false, _) => context.printer.table(&table(&ports))?,
            }
            if ports.more && !context.printer.is_json() {
                context.printer.note("warning: more listens in it than is shown");
            }
        }
        if !arguments.watch {
            return Ok(DONE);
        }
        shown = Some(ports);
    }
}

fn table(ports: &VmPorts) -> Table {
    let mut table = Table::new(["PORT", "PROTOCOL", "ADDRESS", "PROCESS", "REACHED BY"]);
    for port in &ports.ports {
        table.row([
            port.socket.port.to_string(),
            port.socket.protocol.to_string(),
            port.socket.address.to_string(),
            process(port),
            port.url.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table
}

fn process(port: &VmPort) -> String {
    match (&port.socket.process, port.socket.pid) {
        (Some(name), Some(pid)) => format!("{name} ({pid})"),
        (Some(name), None) => name.clone(),
        (None, _) => "-".to_owned(),
    }
}
