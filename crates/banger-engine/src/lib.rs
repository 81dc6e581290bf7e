//! What runs a VM, behind the [`Engine`](banger_core::engine::Engine) port.

mod confinement;
mod firecracker;
mod kernel_parameters;
mod program;
mod qemu;
#[cfg(test)]
mod sample;
mod socket;

pub use confinement::{
    CHECK as CONFINE_CHECK, CONNECT as CONFINE_CONNECT, Confinement, NETWORK as CONFINE_NETWORK,
    READ as CONFINE_READ, SOCKETS as CONFINE_SOCKETS, WRITE as CONFINE_WRITE, is_confined,
};
pub use firecracker::Firecracker;
pub use qemu::Qemu;

/// Most bytes of a log of a VM before it is rotated.
const LOG_LIMIT: u64 = 4 << 20;
