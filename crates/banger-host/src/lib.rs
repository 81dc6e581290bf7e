//! The host as banger sees it. The only crate that starts processes, opens pidfds and reads `/proc`.

mod commands;
mod lock;
mod monitor;
mod nameservers;
mod peer;
mod process;
mod socket;

pub use commands::HostCommands;
pub use lock::{DirectoryLock, LockError};
pub use monitor::{MonitorConnection, MonitorError, MonitorLauncher, StatusStream, read_last_status};
pub use nameservers::nameservers;
pub use peer::{Peer, peer};
pub use process::{ProcessWatch, identity_of};
pub use socket::{SocketError, bind_private, connect_to};
