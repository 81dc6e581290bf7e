//! Layers and images made by hand: with whatever names, numbers and documents.

mod archive;
mod layout;

pub use archive::{add, add_pax, archive, header};
pub use layout::{Layout, Packing, gzip};
