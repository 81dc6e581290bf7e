//! Real VMs, driven as a user does: by `banger`, against a daemon of the test's own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod durability;
mod lifecycle;
mod network;
mod survival;
