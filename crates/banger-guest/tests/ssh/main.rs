//! The SSH server, over a pipe in this process, with a client of the same library and real programs.

mod files;
mod forwards;
mod harness;
mod programs;
mod sessions;
