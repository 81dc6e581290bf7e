//! Reaching `bangerd`: connect, and start it when nobody listens.

mod start;

use std::io;

use banger_api::Client;
use banger_types::ErrorKind;
use banger_types::location::Locations;
use tokio::net::UnixStream;

use crate::error::CommandError;
use crate::printer::Printer;

pub(crate) use start::start;

/// Returns whether somebody listens on the daemon's socket.
pub(crate) async fn is_listening(locations: &Locations) -> Result<bool, CommandError> {
    match UnixStream::connect(&locations.socket).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(false)
        }
        Err(source) => {
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
    }
}

/// Returns a client of the running daemon, after starting it when there is none.
pub(crate) async fn reach(locations: &Locations, printer: Printer) -> Result<Client, CommandError> {
    if !is_listening(locations).await? {
        start(locations, printer).await?;
    }
    Ok(Client::new(&locations.socket))
}
