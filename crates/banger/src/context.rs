//! What every command is given.

use std::cell::{Cell, OnceCell};

use banger_api::Client;
use banger_types::ErrorKind;
use banger_types::location::Locations;

use crate::daemon;
use crate::error::CommandError;
use crate::printer::Printer;

/// The version of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where to print, where things are, and the daemon once it is reached.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) printer: Printer,
    pub(crate) locations: Locations,
    client: OnceCell<Client>,
    interrupted: Cell<bool>,
}

impl Context {
    /// Returns the context that the process's environment makes.
    pub(crate) fn new(printer: Printer) -> Result<Self, CommandError> {
        let locations = Locations::from_environment(|name| std::env::var_os(name)).map_err(|error| {
            CommandError::failed(ErrorKind::Failed, error.to_string(), "set HOME to a directory of yours")
        })?;
        Ok(Self { printer, locations, client: OnceCell::new(), interrupted: Cell::new(false) })
    }

    /// Remembers that the user has had enough: of several things, those that are not begun are not begun any more.
    pub(crate) fn interrupt(&self) {
        self.interrupted.set(true);
    }

    /// Returns whether the user has had enough.
    pub(crate) const fn is_interrupted(&self) -> bool {
        self.interrupted.get()
    }

    /// Returns a client of the daemon, which is started if it does not run.
    pub(crate) async fn daemon(&self) -> Result<&Client, CommandError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = daemon::reach(&self.locations, self.printer).await?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Returns a client of the daemon, whether it runs or not.
    pub(crate) fn daemon_as_it_is(&self) -> &Client {
        self.client.get_or_init(|| daemon::client(&self.locations))
    }

    /// Returns the error with a word on versions, when those differ and may be its cause.
    pub(crate) fn explain(&self, error: CommandError) -> CommandError {
        let server = self.client.get().and_then(Client::server_version);
        match (error, server) {
            (CommandError::Failed(error), Some(server))
                if server != VERSION && matches!(error.kind, ErrorKind::Failed | ErrorKind::Usage) =>
            {
                let error = error.because(format!("bangerd is version {server}, banger is {VERSION}"));
                let fix = match &error.fix {
                    Some(fix) if !fix.starts_with("banger daemon stop") => {
                        format!("{fix}; or restart the daemon: banger daemon stop")
                    }
                    Some(fix) => fix.clone(),
                    None => "banger daemon stop; the next command starts the newer one".to_owned(),
                };
                CommandError::Failed(error.fix(fix))
            }
            (error, _) => error,
        }
    }
}
