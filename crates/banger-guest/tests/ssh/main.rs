//! The SSH server, over a pipe in this process, with a client of the same library and real programs.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod files;
mod forwards;
mod harness;
mod logins;
mod programs;
mod sessions;
