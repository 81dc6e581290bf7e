//! Images that other programs of the host have or make: Podman's and Buildah's store, and Dockerfiles.
//!
//! Only those programs can read their stores, which belong to them alone; they hand an image over as a directory or an
//! archive, and what they have made for banger they forget again.

use std::collections::VecDeque;
use std::io::Read;
use std::path::Path;

use banger_core::command::{CommandError, Commands, HostCommand};
use banger_core::work::{Unwatched, Work};
use banger_types::reference::DockerReference;
use banger_types::source::Dockerfile;
use fs_err as fs;

use super::error::was_cancelled;
use super::{BuildError, BuildOptions};
use crate::oci::{self, OciImage};
use crate::publish::PARTIAL_PREFIX;

/// Programs that read the store of Podman and Buildah, as they are looked for.
const READERS: [&str; 3] = ["skopeo", "podman", "buildah"];
/// Programs that build Dockerfiles, as they are looked for.
const BUILDERS: [&str; 3] = ["buildah", "podman", "docker"];
/// The repository of what is built, until it has been handed over.
pub(super) const REPOSITORY: &str = "localhost/banger-dockerfile";

/// Why a program of the host did not hand an image over.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// None of those that can is there.
    #[error("none of the programs is installed that can {what}: {}", programs.join(", "))]
    Missing {
        /// What they can.
        what: &'static str,
        /// Their names.
        programs: &'static [&'static str],
    },
    /// It failed.
    #[error("{program} did not {what}")]
    Command {
        /// The program.
        program: &'static str,
        /// What it should.
        what: &'static str,
        /// Why.
        #[source]
        source: CommandError,
    },
    /// A Dockerfile cannot be built.
    #[error("{program} did not build the Dockerfile{}", said_last(said))]
    Build {
        /// The program.
        program: &'static str,
        /// The last lines that its steps have printed.
        said: Vec<String>,
        /// Why.
        #[source]
        source: CommandError,
    },
    /// There is no room for what it hands over.
    #[error("cannot make a directory for the image")]
    Scratch(#[source] std::io::Error),
    /// The context of a Dockerfile is no directory.
    #[error("'{0}' is no directory")]
    NoDirectory(String),
}

impl ToolError {
    /// Returns whether somebody's cancel is the reason.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Command { source, .. } | Self::Build { source, .. } if was_cancelled(source))
    }

    /// Returns what a person can do about it.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Missing { programs, .. } => {
                Some(format!("install one of them; {}", crate::install(programs[0])))
            }
            _ => None,
        }
    }
}

/// Takes an image from the store of Podman and Buildah.
pub(super) fn from_storage(
    name: &DockerReference,
    scratch: &Path,
    commands: &dyn Commands,
    work: &dyn Work,
) -> Result<OciImage, BuildError> {
    let what = "read the store of Podman and Buildah";
    let program = first_of(&READERS, what, commands)?;
    work.stage(&format!("image: take it from the store with {program}"));
    let directory = scratch_directory(scratch)?;
    let source = if program == "skopeo" { format!("containers-storage:{name}") } else { name.to_string() };
    let verb = if program == "skopeo" { "copy" } else { "push" };
    let command = HostCommand::new(program).arguments([verb, "--quiet", &source, &place(&directory)]);
    run(program, what, &command, commands, work)?;
    handed_over(directory)
}

/// Builds a Dockerfile.
pub(super) fn build(
    dockerfile: &Dockerfile,
    options: &BuildOptions,
    commands: &dyn Commands,
    work: &dyn Work,
) -> Result<OciImage, BuildError> {
    let what = "build a Dockerfile";
    let context = &dockerfile.directory;
    if !context.is_dir() {
        return Err(ToolError::NoDirectory(context.display().to_string()).into());
    }
    let program = first_of(&BUILDERS, what, commands)?;
    work.stage(&format!("image: build it with {program}"));
    let BuildOptions { scratch, build_tag: tag, .. } = options;
    let directory = scratch_directory(scratch)?;
    let mut output = Output { work, line: Vec::new(), last: VecDeque::new() };
    let mut read = |from: &mut dyn Read| Ok(output.read(from)?);
    let built = commands.stream(&build_command(program, dockerfile, tag), work, &mut read);
    let built = built.map_err(|source| ToolError::Build { program, said: output.last.into(), source });
    let outcome = built.map_err(BuildError::from).and_then(|()| {
        work.stage(&format!("image: take it from {program}"));
        run(program, "hand it over", &hand_over(program, tag, &directory), commands, work)
    });
    // Layers that it keeps make the next build quick; whether it forgets the tag changes nothing here.
    let forgotten = commands.run(&forget_command(program, tag), &Unwatched);
    outcome?;
    if let Err(error) = forgotten {
        work.log(&format!("{program} keeps {tag}: {error}"));
    }
    if program == "docker" {
        let archive = directory.path().join(ARCHIVE);
        return Ok(keep(oci::open_docker_archive(&archive, None, scratch)?, directory));
    }
    handed_over(directory)
}

/// Lets every builder that is here forget a tag; which one has it, if any, nobody remembers.
pub(super) fn forget(tag: &str, commands: &dyn Commands) {
    for program in BUILDERS.iter().filter(|program| commands.find(program).is_some()) {
        // That it does not know the tag is an error to it, too.
        commands.run(&forget_command(program, tag), &Unwatched).ok();
    }
}

fn forget_command(program: &str, tag: &str) -> HostCommand {
    HostCommand::new(program).arguments(["rmi", tag])
}

/// What Docker writes.
const ARCHIVE: &str = "image.tar";

/// What a builder's steps print: for the log, and the last of it for who asks why one has failed.
struct Output<'a> {
    work: &'a dyn Work,
    /// The line that is not whole yet.
    line: Vec<u8>,
    last: VecDeque<String>,
}

impl Output<'_> {
    /// Most lines that are kept.
    const LINES: usize = 10;
    /// Where a longer line is cut, bytes.
    const LONGEST: usize = 1000;

    fn read(&mut self, from: &mut dyn Read) -> std::io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => buffer[..length].iter().for_each(|byte| self.take(*byte)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.end_line();
        Ok(())
    }

    fn take(&mut self, byte: u8) {
        if byte == b'\n' {
            self.end_line();
        } else if self.line.len() < Self::LONGEST {
            self.line.push(byte);
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        self.line.clear();
        if line.is_empty() {
            return;
        }
        self.work.log(&line);
        if self.last.len() == Self::LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

/// Returns the last lines of a builder's steps, as the end of a sentence.
fn said_last(lines: &[String]) -> String {
    if lines.is_empty() {
        String::new()
    } else {
        format!(", whose steps said last:\n  {}", lines.join("\n  "))
    }
}

fn build_command(program: &str, dockerfile: &Dockerfile, tag: &str) -> HostCommand {
    let context = dockerfile.directory.to_string_lossy();
    let mut command = HostCommand::new(program).argument("build");
    if program != "docker" {
        // So that an unchanged line is not run again.
        command = command.argument("--layers");
    }
    command = command.argument(format!("--tag={tag}"));
    if let Some(file) = &dockerfile.file {
        command = command.argument(format!("--file={}", dockerfile.directory.join(file).display()));
    }
    if let Some(target) = &dockerfile.target {
        command = command.argument(format!("--target={target}"));
    }
    let arguments = dockerfile.arguments.iter().map(|(name, value)| format!("--build-arg={name}={value}"));
    command.arguments(arguments).argument("--").argument(context)
}

fn hand_over(program: &str, tag: &str, directory: &tempfile::TempDir) -> HostCommand {
    let command = HostCommand::new(program);
    if program == "docker" {
        let archive = directory.path().join(ARCHIVE);
        return command.arguments(["save", "--output", &archive.to_string_lossy(), tag]);
    }
    command.arguments(["push", "--quiet", tag, &place(directory)])
}

fn place(directory: &tempfile::TempDir) -> String {
    format!("dir:{}", directory.path().join("image").display())
}

fn first_of(
    programs: &'static [&'static str],
    what: &'static str,
    commands: &dyn Commands,
) -> Result<&'static str, ToolError> {
    let found = programs.iter().find(|program| commands.find(program).is_some());
    found.copied().ok_or(ToolError::Missing { what, programs })
}

fn run(
    program: &'static str,
    what: &'static str,
    command: &HostCommand,
    commands: &dyn Commands,
    work: &dyn Work,
) -> Result<(), BuildError> {
    let ran = commands.run(command, work);
    Ok(ran.map(drop).map_err(|source| ToolError::Command { program, what, source })?)
}

fn scratch_directory(scratch: &Path) -> Result<tempfile::TempDir, ToolError> {
    fs::create_dir_all(scratch).map_err(ToolError::Scratch)?;
    tempfile::Builder::new().prefix(PARTIAL_PREFIX).tempdir_in(scratch).map_err(ToolError::Scratch)
}

fn handed_over(directory: tempfile::TempDir) -> Result<OciImage, BuildError> {
    Ok(keep(oci::open_directory(&directory.path().join("image"))?, directory))
}

/// Keeps a directory for as long as the image that is read from it.
fn keep(image: OciImage, directory: tempfile::TempDir) -> OciImage {
    let OciImage { digest, config, layers, is_verified, open } = image;
    let open = Box::new(move |at: usize| {
        let _kept = &directory;
        open(at)
    });
    OciImage { digest, config, layers, is_verified, open }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_builder_are_kept_and_long_ones_are_cut() {
        let mut output = Output { work: &Unwatched, line: Vec::new(), last: VecDeque::new() };
        let long = "x".repeat(5000);
        let lines = (1..=20).map(|number| format!("line {number}\r\n\n")).collect::<Vec<_>>().concat();
        output.read(&mut format!("{lines}{long}\nno end").as_bytes()).unwrap();
        assert_eq!(output.last.len(), Output::LINES);
        assert_eq!((&*output.last[7], &*output.last[9]), ("line 20", "no end"));
        assert_eq!(output.last[8].len(), Output::LONGEST);
        assert_eq!(said_last(&[]), "");
        assert_eq!(said_last(&["a".to_owned(), "b".to_owned()]), ", whose steps said last:\n  a\n  b");
    }
}
