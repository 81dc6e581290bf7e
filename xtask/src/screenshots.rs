//! Pictures of the web console, to be looked at.

use anyhow::{Context as _, Result};

use crate::build::{Profile, build, target_directory};
use crate::packages;
use crate::process::{cargo, run};

/// Tells the test that takes pictures where they go.
const FOLDER: &str = "BANGER_SCREENSHOTS";

/// Takes a picture of every page, in each theme and at each width.
pub(crate) fn take() -> Result<()> {
    packages::install_to_test()?;
    let programs = build(Profile::Development)?;
    let folder = target_directory()?.join("screenshots");
    // Of pages that there are not any more nobody wants any.
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut test = cargo();
    test.args(["test", "--quiet", "--locked", "--workspace", "--test", "browser"])
        .args(["--", "--ignored", "--exact", "screenshots::every_page"])
        .env("BANGER_PROGRAM_DIR", programs)
        .env(FOLDER, &folder);
    run(&mut test)?;
    println!("They are in {}.", folder.display());
    Ok(())
}
