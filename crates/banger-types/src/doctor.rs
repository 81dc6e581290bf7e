//! What `doctor` finds of a host.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::shell::{command_line, quoted};

/// How bad what was found is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is as it should be.
    Ok,
    /// Something does not work, or not as well as it could; VMs run all the same.
    Warning,
    /// VMs cannot be made, or what they hold is at risk.
    Failure,
    /// It could not be looked at, or there is nothing to look at here.
    Skipped,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
            Self::Skipped => "skipped",
        })
    }
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Finding {
    /// The check's name, as `doctor` takes it and as the documentation has it.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at, in a few words.
    pub title: String,
    /// What was found, as a clause or several.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
}

/// What to do about something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fix {
    /// In words, with commands between backticks.
    pub advice: String,
    /// What `doctor --fix` does, in this order, if it needs no thought.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<FixStep>,
}

/// One step of what needs no thought. Each can be done again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FixStep {
    /// Run a program: its name and its arguments, which no shell reads.
    Run {
        /// Name and arguments.
        command: Vec<String>,
        /// Whether root has to.
        as_root: bool,
    },
    /// Put a file in its place, as root.
    Write {
        /// The file.
        path: PathBuf,
        /// What is to be in it.
        content: String,
        /// Its mode.
        mode: u32,
    },
}

impl FixStep {
    /// Returns the step that runs a program as who asks.
    pub fn run<const N: usize>(command: [&str; N]) -> Self {
        Self::Run { command: command.map(str::to_owned).into(), as_root: false }
    }

    /// Returns the step that runs a program as root.
    pub fn run_as_root<const N: usize>(command: [&str; N]) -> Self {
        Self::Run { command: command.map(str::to_owned).into(), as_root: true }
    }
}

/// As one would type it.
impl fmt::Display for FixStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { command, as_root } => {
                let sudo = if *as_root { "sudo " } else { "" };
                write!(f, "{sudo}{}", command_line(command))
            }
            Self::Write { path, content, mode } => {
                writeln!(
                    f,
                    "sudo install -m {mode:o} /dev/stdin {} <<'END'",
                    quoted(&path.to_string_lossy())
                )?;
                write!(f, "{}\nEND", content.trim_end())
            }
        }
    }
}

/// What all checks came to, in the order in which they are told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report {
    /// Each of them.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether something keeps VMs from being made, or puts what they hold at risk.
    pub fn has_failures(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Failure)
    }

    /// Returns how many there are of a kind.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_shown_as_one_types_them() {
        let step = FixStep::run_as_root(["usermod", "-aG", "kvm", "a b"]);
        assert_eq!(step.to_string(), "sudo usermod -aG kvm 'a b'");
        assert_eq!(FixStep::run(["banger", "engine", "install"]).to_string(), "banger engine install");
        let write = FixStep::Write { path: "/etc/x".into(), content: "one\ntwo\n".to_owned(), mode: 0o440 };
        assert_eq!(write.to_string(), "sudo install -m 440 /dev/stdin /etc/x <<'END'\none\ntwo\nEND");
    }
}
