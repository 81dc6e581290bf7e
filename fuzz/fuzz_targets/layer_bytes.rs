//! Layers that are any bytes: whatever is made of them is sound, is what a model says, and is the same each time.
#![no_main]

use banger_fuzz::{raw, scratch, seeds};
use libfuzzer_sys::fuzz_target;

/// Entries that are taken: few of the inputs have more.
const MOST_ENTRIES: usize = 200;

fuzz_target!(
    init: {
        // The first byte says whether headers are to be signed.
        let seeds: Vec<_> = raw::seeds().into_iter().map(|seed| [b"s", &seed[..]].concat()).collect();
        seeds::plant(seeds.iter().map(Vec::as_slice));
    },
    |bytes: &[u8]| {
        let Some((is_signed, archive)) = bytes.split_first() else { return };
        let mut archive = archive.to_vec();
        if is_signed % 4 != 0 {
            raw::sign(&mut archive);
        }
        scratch::check(&bytes, MOST_ENTRIES, |pair| raw::merge(&archive, pair));
    }
);
