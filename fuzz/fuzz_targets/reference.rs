//! Names of images in registries: what is read prints as something that reads as the same, and the grammar is everybody's.
#![no_main]

use banger_fuzz::reference::{is_in_the_grammar, is_surely_within_bounds};
use banger_fuzz::seeds;
use banger_types::reference::DockerReference;
use libfuzzer_sys::fuzz_target;

const SEEDS: [&[u8]; 5] = [
    b"alpine",
    b"index.docker.io/alpine:3.20",
    b"localhost:5000/a.b_c__d---e/f:V_1.0-x",
    b"[::1]:5000/a",
    b"quay.io/a:b@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
];

fuzz_target!(init: seeds::plant(SEEDS), |text: &str| {
    let Ok(reference) = text.parse::<DockerReference>() else {
        assert!(!(is_in_the_grammar(text) && is_surely_within_bounds(text)), "{text:?} is refused");
        return;
    };
    let printed = reference.to_string();
    assert!(is_in_the_grammar(text), "{text:?} is taken, as {printed}");
    assert!(is_in_the_grammar(&printed), "{text:?} prints as {printed}");
    assert_eq!(printed.parse::<DockerReference>().as_ref(), Ok(&reference), "{text:?} prints as {printed}");
    let json = serde_json::to_string(&reference).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let read: DockerReference = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{json}: {error}"));
    assert_eq!(read, reference, "{json}");

    let (registry, repository) = (reference.registry(), reference.repository());
    assert!(!registry.is_empty() && registry.len() + 1 + repository.len() <= 255, "{text:?}");
    let version = reference.version();
    match reference.digest() {
        Some(digest) => assert_eq!(version, digest.to_string()),
        None => assert_eq!(Some(version.as_str()), reference.tag()),
    }
    // Both become paths of requests: nothing in them leads elsewhere.
    for part in repository.split('/').chain([version.as_str()]) {
        assert!(!matches!(part, "" | "." | "..") && !part.contains(['/', '?', '#', '%']), "{text:?}");
    }
});
