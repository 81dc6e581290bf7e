//! Layers and images made by hand: with whatever names, numbers and documents.

mod archive;
pub mod corpus;
mod layout;

pub use archive::{add, add_pax, archive, header, noise};
pub use layout::{Layout, Packing, gzip};
