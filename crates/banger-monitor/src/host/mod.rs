//! What the monitor has of the host: processes, logs, sockets, signals.

pub(crate) mod clock;
pub(crate) mod keyboard;
pub(crate) mod launch;
pub(crate) mod log;
pub(crate) mod peer;
pub(crate) mod port_owner;
pub(crate) mod process;
pub(crate) mod system;
pub(crate) mod vmm;
pub(crate) mod words;
