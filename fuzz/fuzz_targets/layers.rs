//! Layers in tar archives, read and merged: each entry becomes the call that it should, and what is written is what a
//! model says.
#![no_main]

use arbitrary::{Arbitrary as _, Unstructured};
use banger_fuzz::layers::{Layer, merge};
use banger_fuzz::scratch;
use libfuzzer_sys::fuzz_target;

/// Entries that are taken: few of the inputs have more.
const MOST_ENTRIES: usize = 200;

fuzz_target!(|bytes: &[u8]| {
    let Ok(layers) = Vec::<Layer>::arbitrary(&mut Unstructured::new(bytes)) else { return };
    scratch::check(&bytes, MOST_ENTRIES, |pair| merge(&layers, pair));
});
