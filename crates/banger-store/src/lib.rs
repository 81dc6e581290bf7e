//! SQLite storage of VMs, images, kernels, operations and journals.
