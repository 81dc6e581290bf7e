//! Ports of the host that lead into VMs, as far as monitors have to be told.

use std::sync::Arc;

use banger_core::vm::ForwardChanges;
use banger_host::MonitorError;
use banger_types::VmId;
use banger_types::address::HostPort;
use banger_types::guest::Transport;

use super::context::Context;
use super::monitors;

/// Completes, or undoes, what a daemon before this one has begun to change of a VM's forwards.
/// Then says what is wanted beside them.
pub(super) fn adopt(context: &Arc<Context>, id: &VmId, changes: ForwardChanges, automatic: bool) {
    let (context, id) = (Arc::clone(context), id.clone());
    tokio::spawn(async move {
        for forward in changes.surplus {
            let removed = async { monitors::open(&context, &id)?.remove_forward(forward.listen).await };
            if let Err(error) = removed.await {
                tracing::warn!(vm = %id, listen = %forward.listen, %error, "a forward that nobody wants stays");
            }
        }
        for forward in changes.missing {
            let listen = forward.listen;
            let added = async { monitors::open(&context, &id)?.add_forward(forward).await };
            if let Err(error) = added.await {
                tracing::warn!(vm = %id, %listen, %error, "a forward is missing");
            }
        }
        if let Err(error) = set_automatic(&context, &id, automatic).await {
            tracing::warn!(vm = %id, %error, automatic, "its monitor was not told whether to forward automatically");
        }
    });
}

/// Tells a VM's monitor whether it forwards to what listens in it.
pub(super) async fn set_automatic(context: &Context, id: &VmId, wanted: bool) -> Result<(), MonitorError> {
    let told = async { monitors::open(context, id)?.forward_automatically(wanted).await };
    match told.await {
        // One of an older version knows nothing of it, and forwards nothing.
        Err(MonitorError::Refused(reason)) => {
            tracing::debug!(vm = %id, reason, "its monitor does not forward automatically");
            Ok(())
        }
        told => told,
    }
}

/// Makes every VM but this one leave an address that somebody asked for: what came by itself gives way, which is TCP alone.
pub(super) async fn make_way(context: &Context, id: &VmId, listen: HostPort) {
    if listen.protocol != Transport::Tcp {
        return;
    }
    let has_it = |vm: &banger_types::vm::Vm| {
        vm.id != *id && vm.automatic_forwards.iter().any(|forward| forward.listen.port() == listen.port())
    };
    for vm in context.vms.list().into_iter().filter(has_it) {
        let yielded = async { monitors::open(context, &vm.id)?.yield_forward(listen).await };
        if let Err(error) = yielded.await {
            tracing::warn!(vm = %vm.name, %listen, %error, "a port is not given up");
        }
    }
}
