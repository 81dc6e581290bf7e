//! The daemon and its monitors with fake VMMs: everything is real but the machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contention;
mod edits;
mod ends;
mod faults;
mod life;
mod support;
