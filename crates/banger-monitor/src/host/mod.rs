//! What the monitor has of the host: processes, logs, sockets, signals.

pub(crate) mod log;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod system;
