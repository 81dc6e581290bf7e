//! The files of the web console's terminal, from the npm registry by their lock file.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::build::target_directory;
use crate::process::{command, root, run};

/// What names them, and is locked: in the console's crate.
const LOCK: &str = "package-lock.json";
const MANIFEST: &str = "package.json";
/// What the console serves, and where the packages have it.
const FILES: [(&str, &str); 3] = [
    ("xterm.mjs", "@xterm/xterm/lib/xterm.mjs"),
    ("addon-fit.mjs", "@xterm/addon-fit/lib/addon-fit.mjs"),
    ("xterm.css", "@xterm/xterm/css/xterm.css"),
];

/// Puts them into the folder `console` beside the programs, if npm is there; else says what is missing without them.
pub(crate) fn fetch(programs: &Path) -> Result<()> {
    let place = programs.join("console");
    let locked = root().join("crates/banger-console/npm");
    let lock = std::fs::read(locked.join(LOCK)).context("cannot read what locks xterm.js")?;
    if std::fs::read(place.join(LOCK)).is_ok_and(|known| known == lock) {
        return Ok(());
    }
    if !is_there() {
        println!(
            "npm is not installed: the web console will have no terminal (`apt-get install npm`, and again)"
        );
        return Ok(());
    }
    let work = target_directory()?.join("console-npm");
    std::fs::create_dir_all(&work)?;
    for name in [MANIFEST, LOCK] {
        std::fs::copy(locked.join(name), work.join(name))?;
    }
    let mut install = command("npm");
    install.current_dir(&work);
    run(install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]))?;
    std::fs::create_dir_all(&place)?;
    for (name, source) in FILES {
        let source = work.join("node_modules").join(source);
        std::fs::copy(&source, place.join(name))
            .with_context(|| format!("cannot copy {}", source.display()))?;
    }
    // Last: whoever finds it finds all of them.
    std::fs::write(place.join(LOCK), lock)?;
    Ok(())
}

fn is_there() -> bool {
    let mut npm = command("npm");
    npm.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    npm.status().is_ok_and(|status| status.success())
}
