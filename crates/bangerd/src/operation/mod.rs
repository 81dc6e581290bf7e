//! Operations: long work that is begun, watched and cancelled.

mod cancel;
mod handle;
mod registry;

pub(crate) use handle::Handle;
pub(crate) use registry::Operations;
