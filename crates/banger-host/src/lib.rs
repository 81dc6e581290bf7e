//! The host as the daemon sees it: the only one of its crates that starts processes, signals them and reads `/proc`.

mod commands;
mod follow;
mod guard;
mod helper;
mod isolation;
mod kvm;
mod lock;
mod monitor;
mod peer;
mod presence;
mod probe;
mod process;
mod resources;
mod routes;
mod scope;
mod socket;
mod usage;

pub use commands::HostCommands;
pub use follow::LogReader;
pub use helper::Helper;
pub use isolation::{isolation_in_jail, isolation_of};
pub use kvm::{kvm_device, probe_kvm};
pub use lock::{DirectoryLock, LockError};
pub use monitor::{MonitorConnection, MonitorError, MonitorLauncher, StatusStream, read_last_status};
pub use peer::{Peer, peer};
pub use presence::{
    MonitorPresence, boot_id, is_of_earlier_boot, kill_monitor, monitor_gone, monitor_presence,
};
pub use probe::{inspect, trim};
pub use process::{HostProcesses, ProcessWatch, control_group_of, identity_of};
pub use resources::{available_memory, free_space, give_back_memory, load_hundredths, memory, whole_space};
pub use routes::default_routes;
pub use scope::Allowance;
pub use socket::{SocketError, SocketFile, bind_private, connect_to};
pub use usage::usage_of_tree;
