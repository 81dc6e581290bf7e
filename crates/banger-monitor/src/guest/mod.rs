//! What the monitor has of the guest: the control channel, the agent, streams to services, and its
//! kernel's last words.

pub(crate) mod agent;
pub(crate) mod channel;
pub(crate) mod last_word;
pub(crate) mod splice;
