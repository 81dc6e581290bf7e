//! VMs. One task owns each ([`task`]); requests reach it through its [`VmHandle`], and what is shown
//! of it comes out of a watch. The rules are in `banger_core::vm`; here are the effects.

mod boot;
mod context;
mod create;
mod directory;
mod files;
mod jobs;
mod remove;
mod task;

pub(crate) use context::{Context, blocking};
pub(crate) use create::{create, prepare_request};
pub(crate) use directory::VmDirectory;
pub(crate) use remove::remove_files;
pub(crate) use task::{Origin, VmHandle, adopt, spawn};
