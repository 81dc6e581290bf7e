//! SQLite storage of VMs, images, kernels, operations and journals: the [`Store`] port.
//!
//! One connection behind a lock: every call is one short transaction on a local file, and the
//! daemon's tasks call it from blocking threads. Specifications and the like are JSON columns, so
//! that adding a field needs no migration; what is looked up or must be unique is a column.

mod artifacts;
mod look;
mod migrations;
mod operations;
mod rows;
mod sqlite;

pub use sqlite::SqliteStore;
