//! VMs. One task owns each ([`task`]); requests reach it through its [`VmHandle`], and what is shown
//! of it comes out of a watch. The rules are in `banger_core::vm`; here are the effects.

mod boot;
mod context;
mod create;
mod directory;
mod edit;
mod engines;
mod files;
mod forwards;
mod handle;
mod jobs;
mod kvm;
mod limits;
mod monitors;
mod places;
mod ports;
mod probe;
mod remove;
mod stats;
mod task;
mod trim;
mod watches;

pub(crate) use boot::is_confined;
pub(crate) use context::{Context, blocking, in_place};
pub(crate) use create::{Prepared, create, finish, prepare_request};
pub(crate) use directory::VmDirectory;
pub(crate) use edit::{Edit, Edited, disk_size};
pub(crate) use engines::Engines;
pub(crate) use files::replace_private;
pub(crate) use handle::{Origin, VmHandle};
pub(crate) use kvm::Verdicts;
pub(crate) use limits::warn_of_disk;
pub(crate) use monitors::{console, kill_orphan, last_word, look};
pub(crate) use places::Places;
pub(crate) use ports::{Spoken, ports};
pub(crate) use remove::remove_files;
pub(crate) use stats::look_at;
pub(crate) use task::{Found, spawn};
