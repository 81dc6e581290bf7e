//! Inputs to begin with, made by the targets themselves, so that none has to be kept.

use std::path::Path;

/// Writes seeds into the directory of the corpus that libFuzzer was called with, if it was. To be called before libFuzzer
/// reads it.
pub fn plant<'a>(seeds: impl IntoIterator<Item = &'a [u8]>) {
    let corpus = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let Some(corpus) = corpus.filter(|corpus| Path::new(corpus).is_dir()) else { return };
    for (number, seed) in seeds.into_iter().enumerate() {
        let path = Path::new(&corpus).join(format!("seed-{number}"));
        std::fs::write(&path, seed)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}
