//! What the monitor has of the guest: the control channel, the agent, and streams to services.

pub(crate) mod agent;
pub(crate) mod channel;
pub(crate) mod splice;
