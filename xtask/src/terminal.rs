//! The files of the web console's terminal, from the npm registry by their lock file.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::build::target_directory;
use crate::packages::{TERMINAL, has_npm};

/// What the console serves, and where the packages have it.
const FILES: [(&str, &str); 3] = [
    ("xterm.mjs", "@xterm/xterm/lib/xterm.mjs"),
    ("addon-fit.mjs", "@xterm/addon-fit/lib/addon-fit.mjs"),
    ("xterm.css", "@xterm/xterm/css/xterm.css"),
];

/// Puts them into the folder `console` beside the programs. Without npm, or what it asks, says what is missing: all else works.
pub(crate) fn fetch(programs: &Path) {
    let place = programs.join("console");
    if has_npm() {
        if let Err(error) = copy_to(&place) {
            println!("xterm.js cannot be fetched: {error:#}");
        }
    } else {
        println!("npm is not installed (`apt-get install npm`, and again)");
    }
    if FILES.iter().any(|(name, _)| !place.join(name).exists()) {
        println!("the web console has no terminal");
    }
}

fn copy_to(place: &Path) -> Result<()> {
    let packages = TERMINAL.install(&target_directory()?)?.join("node_modules");
    std::fs::create_dir_all(place)?;
    for (name, source) in FILES {
        let source = packages.join(source);
        std::fs::copy(&source, place.join(name))
            .with_context(|| format!("cannot copy {}", source.display()))?;
    }
    Ok(())
}
