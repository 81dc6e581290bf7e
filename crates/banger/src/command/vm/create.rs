//! `banger vm create`.

use banger_types::bytes::ByteString;
use banger_types::vm::VmCreateRequest;

use super::{DONE, Outcome, follow_and_print_vm};
use crate::arguments::{CreateArguments, Machine};
use crate::context::Context;
use crate::error::CommandError;

/// Makes a VM and prints its name.
pub(in crate::command) async fn create(context: &Context, arguments: CreateArguments) -> Outcome {
    let request = VmCreateRequest {
        name: arguments.name,
        no_start: arguments.no_start,
        ..machine_request(arguments.machine)?
    };
    let operation = context.daemon().await?.create_vm(&request).await?;
    follow_and_print_vm(context, operation, arguments.wait).await?;
    Ok(DONE)
}

/// Returns the request that these arguments mean, without a name.
pub(super) fn machine_request(machine: Machine) -> Result<VmCreateRequest, CommandError> {
    let environment = machine.variables().into_iter().map(as_text).collect::<Result<_, _>>()?;
    Ok(VmCreateRequest {
        image: machine.image,
        kernel: machine.kernel,
        vcpus: machine.vcpus,
        memory: machine.memory,
        disk: machine.disk,
        network: machine.network.map(Into::into),
        allow_host: machine.allow_host,
        no_peers: machine.no_peers,
        engine: machine.engine.into(),
        environment,
        forwards: machine.forwards.into_iter().flat_map(|forwards| forwards.0).collect(),
        automatic_forwards: machine.automatic_forwards.map(Into::into),
        labels: machine.labels.into_iter().collect(),
        restart: machine.restart.into(),
        ..VmCreateRequest::default()
    })
}

fn as_text((name, value): (ByteString, ByteString)) -> Result<String, CommandError> {
    let bytes = [name.0.as_slice(), b"=", value.0.as_slice()].concat();
    String::from_utf8(bytes).map_err(|_| {
        CommandError::usage(
            format!("the value of the variable {name:?} is not UTF-8"),
            "give it to a single command instead: banger exec -e NAME=VALUE",
        )
    })
}
