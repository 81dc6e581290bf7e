//! What runs a VM, behind the [`Engine`](banger_core::engine::Engine) port.

mod firecracker;
mod kernel_parameters;
mod program;
mod qemu;
#[cfg(test)]
mod sample;
mod socket;

pub use firecracker::Firecracker;
pub use qemu::Qemu;
