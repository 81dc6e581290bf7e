//! SQLite storage of VMs, images, kernels, operations and journals: the [`Store`] port.
//!
//! A connection that writes and one that reads, each behind a lock: every call is one short transaction on a local file.
//! Whoever writes waits for the disk, and whoever reads for nobody. Specifications and the like are JSON columns, so
//! that adding a field needs no migration; what is looked up or must be unique is a column.

mod artifacts;
mod look;
mod migrations;
mod operations;
mod rows;
mod sqlite;

pub use sqlite::SqliteStore;
