//! Reaching `bangerd`: connect, and start it when nobody listens.

mod start;

use std::io;

use banger_api::{Client, ClientError};
use banger_types::ErrorKind;
use banger_types::location::Locations;
use banger_types::system::SystemStatus;

use crate::error::CommandError;
use crate::printer::Printer;

pub(crate) use start::start;

/// Returns whether the user's daemon listens on its socket. Somebody else's in its place is an error.
pub(crate) async fn is_listening(locations: &Locations) -> Result<bool, CommandError> {
    match banger_api::connect(&locations.socket).await {
        Ok(_) => Ok(true),
        Err(ClientError::Connect { source, .. }) if nobody_is_there(&source, locations) => Ok(false),
        Err(ClientError::Connect { source, .. }) => {
            let mut error = banger_types::ApiError::caused_by(
                ErrorKind::Unreachable,
                format!("cannot connect to bangerd on {}", locations.socket.display()),
                &source,
            );
            if source.kind() == io::ErrorKind::PermissionDenied {
                error = error.fix("use a socket of your own: unset BANGER_SOCKET");
            }
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
}

fn nobody_is_there(error: &io::Error, locations: &Locations) -> bool {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => true,
        // What is in the place of the data directory is told of by whoever wants to start a daemon there.
        io::ErrorKind::NotADirectory => locations.socket.starts_with(&locations.data),
        _ => false,
    }
}

/// Returns a client of the daemon, whether it runs or not.
pub(crate) fn client(locations: &Locations) -> Client {
    Client::new(&locations.socket).of_program(concat!("banger/", env!("CARGO_PKG_VERSION")))
}

/// Returns a client of the running daemon, after starting it when there is none.
pub(crate) async fn reach(locations: &Locations, printer: Printer) -> Result<Client, CommandError> {
    if !is_listening(locations).await? {
        start(locations, printer).await?;
    }
    Ok(client(locations))
}

/// Says so when there are disks that belong to no VM of the list.
pub(crate) fn warn_of_unknown_vms(printer: Printer, status: &SystemStatus) {
    if status.unknown_vms.is_empty() {
        return;
    }
    printer.note(&format!(
        "warning: the database {} does not know these VMs, which are left as they are: put the database back that knows \
         them, or delete them:",
        status.data_directory.join("banger.db").display()
    ));
    for directory in &status.unknown_vms {
        printer.note(&format!("  {}", directory.display()));
    }
}
