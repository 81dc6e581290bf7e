//! `banger daemon …`.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use banger_api::{Client, ClientError};
use banger_types::ErrorKind;
use banger_types::system::SystemStatus;
use banger_types::web::WebConsole;
use fs_err as fs;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags};

use super::{DONE, Outcome};
use crate::context::Context;
use crate::daemon as process;
use crate::error::CommandError;
use crate::printer::{Table, ago};

/// The daemon's log in the data directory, for when no daemon can be asked where it is.
const LOG: &str = "bangerd.log";

/// Starts the daemon, unless it runs.
pub(super) async fn start(context: &Context) -> Outcome {
    let started = if process::is_listening(&context.locations).await? {
        false
    } else {
        process::start(&context.locations, context.printer).await?
    };
    let status = context.daemon_as_it_is().system().await?;
    if context.printer.is_json() {
        context.printer.document(&status)?;
    } else if !started {
        context.printer.note(&format!("bangerd {} runs already (process {})", status.version, status.pid));
    }
    Ok(DONE)
}

/// Stops the daemon and waits until its process is gone.
pub(super) async fn stop(context: &Context) -> Outcome {
    match stop_if_running(context.daemon_as_it_is()).await? {
        Some(status) if context.printer.is_json() => context.printer.document(&status)?,
        Some(status) => note_stopped(context, &status),
        None => context.printer.note("bangerd does not run"),
    }
    Ok(DONE)
}

/// Stops the daemon if it runs, waits until its process is gone, and starts it.
pub(super) async fn restart(context: &Context) -> Outcome {
    // Not the context's client: that would remember the version of the daemon that goes.
    let stopped = stop_if_running(&process::client(&context.locations)).await?;
    if let Some(status) = stopped.filter(|_| !context.printer.is_json()) {
        note_stopped(context, &status);
    }
    start(context).await
}

fn note_stopped(context: &Context, status: &SystemStatus) {
    context.printer.note(&format!("stopped bangerd {} (process {}); VMs go on", status.version, status.pid));
}

/// Stops the daemon and waits until its process is gone. Returns what it was; `None` when there was none.
async fn stop_if_running(client: &Client) -> Result<Option<SystemStatus>, CommandError> {
    let Some(status) = status_if_running(client).await? else { return Ok(None) };
    // Opened before it is told to go, so that the number cannot be somebody else's by then.
    let process = open_process(status.pid)?;
    client.shut_down().await?;
    if let Some(process) = process {
        // A pidfd is readable once its process has ended: pidfd_open(2).
        let mut descriptors = [PollFd::new(&process, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut descriptors, None)).map_err(|source| {
            CommandError::io(
                format!("cannot wait for bangerd (process {})", status.pid),
                &io::Error::from(source),
            )
        })?;
    }
    Ok(Some(status))
}

fn open_process(pid: u32) -> Result<Option<OwnedFd>, CommandError> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    match number.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty())) {
        Some(Ok(descriptor)) => Ok(Some(descriptor)),
        Some(Err(rustix::io::Errno::SRCH)) => Ok(None),
        Some(Err(source)) => {
            Err(CommandError::io(format!("cannot watch bangerd (process {pid})"), &io::Error::from(source)))
        }
        None => Err(CommandError::failed(
            ErrorKind::Failed,
            format!("bangerd says that its process id is {pid}, which none can be"),
            "banger daemon logs",
        )),
    }
}

async fn status_if_running(client: &Client) -> Result<Option<SystemStatus>, CommandError> {
    match client.system().await {
        Ok(status) => Ok(Some(status)),
        Err(ClientError::Connect { source, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows the daemon's state. Starts nothing: exit code 5 when it does not run.
pub(super) async fn status(context: &Context) -> Outcome {
    let Some(status) = status_if_running(context.daemon_as_it_is()).await? else {
        return Err(CommandError::failed(
            ErrorKind::Unreachable,
            "bangerd does not run",
            "banger daemon start",
        ));
    };
    if context.printer.is_json() {
        context.printer.document(&status)?;
        return Ok(DONE);
    }
    process::warn_of_unknown_vms(context.printer, &status);
    let mut table = Table::of_properties();
    table.property("Version", status.version);
    table.property("Process", status.pid.to_string());
    table.property("Started", ago(status.started_at, Timestamp::now()));
    table.property("Socket", status.socket.display().to_string());
    table.property("Data", status.data_directory.display().to_string());
    table.property("Log", status.log.display().to_string());
    table.property("Engine", status.engine);
    table.property("Root helper", status.helper.to_string());
    table.property("VMs", format!("{} ({} running)", status.vms, status.vms_running));
    table.property("Images", status.images.to_string());
    table.property("Kernels", status.kernels.to_string());
    table.property("Web console", web_console(context, status.web.as_ref()).await);
    table.properties("Web console", status.web.and_then(|web| web.note));
    context.printer.table(&table)?;
    Ok(DONE)
}

/// Returns where the web console is, with a link that is good once.
async fn web_console(context: &Context, web: Option<&WebConsole>) -> String {
    let Some(web) = web else { return "off".to_owned() };
    match context.daemon_as_it_is().create_sign_in_link().await {
        Ok(link) => link.url,
        Err(_) => web.url.clone(),
    }
}

/// Prints the daemon's log, whether it runs or not.
pub(super) fn logs(context: &Context) -> Outcome {
    let path = context.locations.data.join(LOG);
    let unreadable = |source: io::Error| CommandError::io("cannot read bangerd's log", &source);
    let mut file = match fs::File::open(&path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            return Err(CommandError::failed(
                ErrorKind::NotFound,
                format!("bangerd has written no log to {}", path.display()),
                "banger daemon start",
            ));
        }
        opened => opened.map_err(unreadable)?,
    };
    let mut log = context.printer.log();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            count => log.write(&buffer[..count])?,
        }
    }
    log.finish()?;
    Ok(DONE)
}
