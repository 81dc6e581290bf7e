//! Tests that cannot run here.

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

fn note(file: Option<&Path>, test: &str, reason: &str) {
    // A reason is often what a program said.
    let line = format!("{test}: {}\n", reason.split_whitespace().collect::<Vec<_>>().join(" "));
    std::io::stderr().write_all(format!("NOT RUN: {line}").as_bytes()).ok();
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
        assert_eq!(listed, "one: needs root\ntwo: mount: failed for this reason\n");
    }
}
