//! Tests that cannot run here, and tests that had to run again.

use std::io::Write as _;
use std::path::Path;

/// Names the file that collects which tests were not run. `cargo xtask test` sets it, and shows the file at its end:
/// what a test that passes prints is shown by nobody.
const VARIABLE: &str = "BANGER_NOT_RUN";

/// Says that a test cannot run here. The test then returns, and so passes.
pub fn not_run(test: &str, reason: &str) {
    let file = std::env::var_os(VARIABLE);
    note(file.as_deref().map(Path::new), test, reason);
}

/// Says that tests are run once more, for a reason that is not theirs. That is shown as well.
pub(crate) fn run_again(test: &str, reason: &str) {
    let file = std::env::var_os(VARIABLE);
    list(file.as_deref().map(Path::new), &format!("RUN AGAIN: {test}: {reason}\n"));
}

fn note(file: Option<&Path>, test: &str, reason: &str) {
    // A reason is often what a program said.
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    list(file, &format!("NOT RUN: {test}: {reason}\n"));
}

fn list(file: Option<&Path>, line: &str) {
    std::io::stderr().write_all(line.as_bytes()).ok();
    if let Some(file) = file {
        let mut file =
            std::fs::File::options().create(true).append(true).open(file).expect("open the list of tests");
        // In one piece: many tests write to it at once.
        file.write_all(line.as_bytes()).expect("write to the list of tests");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_run_is_listed_a_line_for_each() {
        let directory = tempfile::tempdir().expect("make a directory");
        let list = directory.path().join("list");
        note(None, "nobody_asks", "for this");
        note(Some(&list), "one", "needs root");
        note(Some(&list), "two", "mount: failed\n  for this reason\n");
        let listed = std::fs::read_to_string(list).expect("read the list");
        assert_eq!(listed, "NOT RUN: one: needs root\nNOT RUN: two: mount: failed for this reason\n");
    }
}
