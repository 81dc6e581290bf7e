//! What banger's tests share: an isolated daemon, images made on the spot, and ways to talk to both.
//!
//! An [`Environment`] is a home of its own with a daemon of its own. Kernel and images come from a
//! [`seed`] that is made once for a state of the sources, for real, and linked into each home.
#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

mod archive;
mod environment;
pub mod seed;
mod terminal;

pub use archive::{busybox_archive, probe_archive};
pub use environment::{Environment, Outcome, exit_code, programs};
pub use terminal::Terminal;
