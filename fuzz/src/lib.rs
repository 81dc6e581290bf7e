//! What the fuzz targets share: inputs made of a fuzzer's bytes, models of what should come of them, and readers of
//! what does.

pub mod calls;
pub mod check;
pub mod content;
pub mod disk;
pub mod layers;
pub mod model;
pub mod pair;
pub mod raw;
pub mod reference;
pub mod scratch;
pub mod seeds;
pub mod tar;
pub mod witness;
