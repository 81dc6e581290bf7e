//! What runs a VM, behind the [`Engine`](banger_core::engine::Engine) port.

mod qemu;

pub use qemu::Qemu;
