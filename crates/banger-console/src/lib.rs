//! The web console: pages and forms for a browser on the same host.
//!
//! It is a client of the daemon's API over its unix socket, like the command line, so that there is no second way in. What
//! keeps it to its user is in three places: [`guard`] looks at every request before anything else does, [`session`] knows who
//! has signed in, and [`form`] is the only way to what a form says, past the session's key.

mod answer;
mod assets;
mod browse;
mod connections;
mod form;
mod guard;
mod layout;
mod listener;
mod live;
mod pages;
mod plain;
mod secret;
mod server;
mod session;
mod visit;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use banger_api::Client;
use banger_types::web::{SignInLink, WebConsole, WebListen};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::assets::TerminalFiles;
use crate::guard::Guard;
use crate::session::Sessions;

/// Most streams of live parts at a time. A page has one, and none while it is hidden.
const MOST_STREAMS: usize = 64;

/// Most terminals at a time.
const MOST_TERMINALS: usize = 32;

/// A web console that listens, and does not answer yet.
#[derive(Debug)]
pub struct Console {
    listener: TcpListener,
    door: Door,
}

/// What lets people into a console.
#[derive(Debug, Clone)]
pub struct Door {
    address: SocketAddr,
    note: Option<String>,
    sessions: Arc<Sessions>,
}

/// What every page needs.
struct App {
    client: Client,
    guard: Guard,
    sessions: Arc<Sessions>,
    streams: Arc<Semaphore>,
    terminal: TerminalFiles,
    terminals: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Console {
    /// Listens where it is to, or at the next port that is free. Returns nothing if there is to be no console.
    ///
    /// # Errors
    /// If no port is free, or the address is not the host's.
    pub fn bind(listen: WebListen) -> io::Result<Option<Self>> {
        let WebListen::At(wanted) = listen else { return Ok(None) };
        let (listener, address) = listener::bind(wanted)?;
        let is_other = wanted.port() != 0 && wanted.port() != address.port();
        let note = is_other.then(|| {
            format!(
                "port {} was taken when bangerd began, so the web console has port {}",
                wanted.port(),
                address.port()
            )
        });
        tracing::info!(%address, "the web console listens");
        Ok(Some(Self { listener, door: Door { address, note, sessions: Arc::default() } }))
    }

    /// Returns what lets people in.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// Answers until `shutdown`, with what `client` says. In the directory `scripts` are those that are not part of this program:
    /// xterm.js, without which there is no terminal.
    pub async fn serve(self, client: Client, scripts: PathBuf, shutdown: CancellationToken) {
        let app = App {
            client: client.of_program(concat!("banger-console/", env!("CARGO_PKG_VERSION"))),
            guard: Guard::new(self.door.address),
            sessions: self.door.sessions,
            streams: Arc::new(Semaphore::new(MOST_STREAMS)),
            terminal: TerminalFiles::new(scripts),
            terminals: Arc::new(Semaphore::new(MOST_TERMINALS)),
            shutdown,
        };
        server::serve(self.listener, Arc::new(app)).await;
    }
}

impl Door {
    /// Returns what there is to say of the console.
    pub fn describe(&self) -> WebConsole {
        WebConsole { url: format!("http://{}/", self.address), note: self.note.clone() }
    }

    /// Makes an address that lets somebody in, once, within some minutes.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn open(&self) -> io::Result<SignInLink> {
        let token = self.sessions.invite()?;
        let expires_at =
            jiff::Timestamp::now().checked_add(session::INVITATION_TIME).map_err(io::Error::other)?;
        Ok(SignInLink { url: format!("http://{}/sign-in/{token}", self.address), expires_at })
    }
}
