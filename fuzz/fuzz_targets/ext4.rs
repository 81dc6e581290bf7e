//! Calls of the ext4 writer, in any order: what it finishes is sound, is what a model says, and is the same each time.
#![no_main]

use arbitrary::{Arbitrary as _, Unstructured};
use banger_fuzz::calls::{Call, make};
use banger_fuzz::scratch;
use libfuzzer_sys::fuzz_target;

/// Entries that are taken: few of the inputs have more.
const MOST_ENTRIES: usize = 200;

fuzz_target!(|bytes: &[u8]| {
    let Ok(calls) = Vec::<Call>::arbitrary(&mut Unstructured::new(bytes)) else { return };
    scratch::check(&bytes, MOST_ENTRIES, |pair| make(&calls, pair));
});
