//! The agent: serves the control channel.
//!
//! One thread. Services are tasks; the channel's driver ([`link`]) is one of them.

mod clock;
mod control;
mod datagrams;
mod forward;
mod link;
mod listeners;
mod mux;
mod port;
mod socket;
mod sockets;
mod stats;
mod stopping;

use std::process::ExitCode;
use std::str::FromStr as _;
use std::sync::Arc;

use banger_types::guest::{GuestConfig, Service};
use tokio::signal::unix::{SignalKind, signal};

use self::listeners::{Listeners, watch_listeners};
use self::mux::{Mux, Offer};
use self::stopping::Stopping;
use crate::{boot, init, log, path, process, ssh};

/// Why the agent cannot work.
#[derive(Debug, thiserror::Error)]
enum AgentError {
    #[error("cannot use {path}", path = path::CONFIG)]
    Config(#[from] boot::ConfigError),
    #[error("cannot serve SSH")]
    Ssh(#[from] ssh::SetupError),
    #[error("{what}")]
    Io {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
}

/// Serves until a signal ends it.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log!("fatal: {}", log::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> AgentError {
    move |source| AgentError::Io { what, source }
}

fn serve() -> Result<(), AgentError> {
    let config = boot::parse_config(&std::fs::read(path::CONFIG).map_err(boot::ConfigError::from)?)?;
    prepare_process();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("cannot start the runtime"))?;
    runtime.block_on(serve_channel(&config))
}

/// Sees to it that sessions inherit nothing but what they should.
fn prepare_process() {
    init::signals::unblock_all();
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        for number in numbers.filter(|number| *number > 2) {
            close_on_exec(number);
        }
    }
    process::raise_file_limit();
    // The kernel may kill a session for its memory, and should leave who serves all of them. Sessions set it back.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-900");
}

#[expect(unsafe_code, reason = "a descriptor that the starter left open has no owner in this program")]
fn close_on_exec(number: i32) {
    // SAFETY: fcntl takes no pointers here; at worst the number is not open (any more).
    unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
}

async fn serve_channel(config: &GuestConfig) -> Result<(), AgentError> {
    let helper = std::env::current_exe().unwrap_or_else(|_| path::BINARY.into());
    let ssh = Arc::new(ssh::Server::new(config, helper)?);
    let mut terminate = signal(SignalKind::terminate()).map_err(io("cannot listen for signals"))?;
    let mut shutdowns = init::Announcements::open().map_err(io("cannot listen for signals"))?;
    let stopping = Stopping::default();
    let mux = Mux::new().map_err(io("cannot draw a session number"))?;
    let services =
        Services { ssh, stopping: stopping.clone(), mux: mux.clone(), listeners: watch_listeners() };
    let driver = tokio::spawn(link::drive(mux.clone(), move |offer, name| services.start(offer, &name)));
    loop {
        tokio::select! {
            biased;
            action = shutdowns.next() => stopping.announce(action),
            _ = terminate.recv() => break,
        }
    }
    if let Some(action) = init::announced_by_systemd() {
        stopping.announce(action);
    }
    stopping.told().await;
    mux.flush().await;
    driver.abort();
    Ok(())
}

/// What can be served on a stream.
struct Services {
    ssh: Arc<ssh::Server>,
    stopping: Stopping,
    mux: Mux,
    listeners: Listeners,
}

impl Services {
    fn start(&self, offer: Offer, name: &str) {
        match Service::from_str(name) {
            Ok(Service::Agent) => {
                let control =
                    control::Control::new(self.stopping.clone(), self.mux.clone(), self.listeners.clone());
                tokio::spawn(control.serve(offer.accept()));
            }
            Ok(Service::Ssh) => {
                let stream = offer.accept();
                let closed = stream.closed();
                let server = Arc::clone(&self.ssh);
                tokio::spawn(async move { ssh::serve(server, stream, closed).await });
            }
            Ok(Service::Tcp(port)) => {
                tokio::spawn(forward::serve(offer, port));
            }
            Ok(Service::Udp(port)) => {
                tokio::spawn(datagrams::serve(offer, port));
            }
            Err(error) => offer.refuse(&error.to_string()),
        }
    }
}
