//! `banger version`.

use banger_api::ClientError;
use serde::Serialize;

use super::{DONE, Outcome};
use crate::context::{Context, VERSION};

/// What `banger version --json` prints.
#[derive(Debug, Serialize)]
struct Versions {
    banger: &'static str,
    /// `null` when the daemon does not run.
    bangerd: Option<String>,
}

/// Prints both versions. Starts nothing.
pub(super) async fn version(context: &Context) -> Outcome {
    let client = context.daemon_as_it_is();
    let bangerd = match client.system().await {
        Ok(status) => Some(status.version),
        Err(ClientError::Connect { .. }) => None,
        // One that cannot be understood still says its version with every answer.
        Err(error) => match client.server_version() {
            Some(version) => Some(version.to_owned()),
            None => return Err(error.into()),
        },
    };
    if context.printer.is_json() {
        context.printer.document(&Versions { banger: VERSION, bangerd })?;
    } else {
        context.printer.line(&format!("banger {VERSION}"))?;
        context.printer.line(&format!("bangerd {}", bangerd.as_deref().unwrap_or("(not running)")))?;
    }
    Ok(DONE)
}
