//! What banger's tests share: an isolated daemon, images made on the spot, and ways to talk to both.
//!
//! An [`Environment`] is a home of its own with a daemon of its own. Kernel and images come from a
//! [`seed`] that is made once for a state of the sources, for real, and linked into each home.
#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

mod archive;
pub mod browser;
mod builder;
mod environment;
mod file_server;
mod firewalls;
mod host;
mod kernel;
pub mod layers;
mod network_host;
mod not_run;
mod process;
mod registry;
pub mod seed;
mod small_disk;
pub mod space;
mod terminal;

pub use archive::{busybox_archive, probe_archive};
pub use builder::Builder;
pub use environment::{Environment, Outcome, engine, exit_code, programs};
pub use file_server::{FileServer, Serving};
pub use firewalls::{HostDaemon, are_installed, shell, start_docker};
pub use host::{Snapshot, TestHost, Tests, User};
pub use kernel::landlock_version;
pub use network_host::{NetworkHost, Running, wait_until};
pub use not_run::not_run;
pub use process::{pidfd, wait_for_end};
pub use registry::{Passing, Proxy, Registry, RegistryOptions};
pub use small_disk::{Ballast, SmallDisk};
pub use terminal::Terminal;

/// Says that everything is to be tried.
const FULL: &str = "BANGER_TEST_FULL";

/// Returns the program that tests an API against its description, if whoever runs the tests has it.
pub fn schemathesis() -> Option<std::path::PathBuf> {
    std::env::var_os("BANGER_SCHEMATHESIS").map(Into::into)
}

/// Returns the folder that has npm's packages of the browser's tests, if whoever runs the tests has them.
pub fn npm_packages() -> Option<std::path::PathBuf> {
    std::env::var_os("BANGER_BROWSER_NPM").map(Into::into)
}

/// Whether everything is to be tried, not only what fits into every day (`cargo xtask test --full`).
pub fn is_full_run() -> bool {
    std::env::var_os(FULL).is_some()
}
