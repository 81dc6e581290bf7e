//! What runs a VM: QEMU behind the engine port.
