//! What a developer of banger types: `cargo xtask run`, `cargo xtask test`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that speaks to a terminal")]

use std::process::ExitCode;

mod bench;
mod build;
mod fuzz;
mod layers;
mod openapi;
mod packages;
mod process;
mod reference;
mod run;
mod screenshots;
mod terminal;
mod test;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  run              install what is missing, build, and boot a first VM
  test [--full]    everything that must hold before a change lands; --full tries more cases of each
                   property, and fuzzes
  fuzz [TARGET] [--seconds N]
                   run the fuzz targets, or one, for 60 seconds each
  bench            compare with other ways to do the same, and write bench/RESULTS.md
  screenshots      pictures of every page of the web console, into target/screenshots
  check-layers     which crate may use which
  openapi          write the API's description anew, crates/banger-api/openapi.json
  reference        write the reference of what can be set anew, docs/configuration.md
  build            build the programs, for release
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["run"] => run::run_first_vm(),
        ["test"] => test::test(test::Extent::Daily),
        ["test", "--full"] => test::test(test::Extent::Full),
        ["fuzz", rest @ ..] => match fuzz::arguments(rest) {
            Some((target, seconds)) => fuzz::fuzz(target, seconds),
            None => return usage(),
        },
        ["bench"] => bench::bench(),
        ["screenshots"] => screenshots::take(),
        ["check-layers"] => layers::check(),
        ["openapi"] => openapi::write(),
        ["reference"] => reference::write(),
        ["build"] => build::build(build::Profile::Release).map(drop),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => return usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprint!("{USAGE}");
    ExitCode::from(2)
}
