//! The reference in `docs` is the code's.

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");

#[test]
fn the_reference_is_the_codes() {
    let kept = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(kept == banger_configuration::reference(), "`cargo xtask reference` writes it anew");
}
