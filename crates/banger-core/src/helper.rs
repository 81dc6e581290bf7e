//! The port to `banger-helper`, which does the little that needs root.

use banger_types::VmId;
use banger_types::helper::{HelperAnswer, HelperReadiness, HelperRefusal, HelperVerb};
use banger_types::monitor::Program;

use crate::command::CommandError;

/// The helper of this version of banger.
pub trait RootHelper: Send + Sync {
    /// Finds out whether it can be asked. Blocks for some milliseconds.
    fn readiness(&self) -> HelperReadiness;

    /// Asks it for something. Blocks until it is done.
    fn ask(&self, verb: HelperVerb) -> Result<HelperAnswer, HelperError>;

    /// Returns what runs a VM's VMM in its jail ([`banger_types::helper::RUN_VMM`]).
    fn runner(&self, vm: &VmId) -> Program;
}

/// Why the helper did not do something.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// It cannot be asked.
    #[error("the root helper is {0}")]
    NotReady(HelperReadiness),
    /// It refused.
    #[error("the root helper refuses: {message}", message = .0.message)]
    Refused(HelperRefusal),
    /// It could not be run to its end.
    #[error("cannot run the root helper")]
    Run(#[from] CommandError),
    /// What it said is no answer.
    #[error("the root helper's answer is none: {0}")]
    Answer(String),
    /// It answered something else.
    #[error("the root helper answered another question")]
    Another,
}
