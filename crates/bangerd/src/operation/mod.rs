//! Operations: long work that is begun, watched and cancelled.

mod cancel;
mod handle;
#[cfg(test)]
mod model;
mod pace;
mod part;
mod record;
mod registry;
mod request;
mod turns;

pub(crate) use cancel::Cancel;
pub(crate) use handle::Handle;
pub(crate) use part::Part;
pub(crate) use registry::{Operations, Settings};
pub(crate) use request::{Requester, Terms};
