//! Operations: long work that is begun, watched and cancelled.

mod cancel;
mod handle;
mod part;
mod registry;

pub(crate) use cancel::Cancel;
pub(crate) use handle::Handle;
pub(crate) use part::Part;
pub(crate) use registry::Operations;
