//! The verbs that images and kernels share.

use std::future::Future;
use std::path::{Path, PathBuf};

use banger_api::request::PullRequest;
use banger_api::{Client, ClientError};
use banger_types::operation::Operation;
use banger_types::source::ImageSource;
use banger_types::{ApiError, ErrorKind};
use jiff::Timestamp;
use serde::Serialize;

use super::input::Input;
use super::{DONE, Deleted, Failures, Outcome, confirm, follow_or_print, quoted};
use crate::arguments::{ArtifactArguments, DeleteArguments, ListArguments, PullArguments, WaitOptions};
use crate::context::Context;
use crate::error::CommandError;
use crate::printer::Table;

/// What is made once, under a name, and then used by VMs: an image or a kernel.
pub(super) trait Artifact: Serialize + Sized {
    /// What it is called, also as the noun of its verbs.
    const NOUN: &'static str;
    /// Columns of its list.
    const HEADINGS: [&'static str; 6];

    /// Returns its name.
    fn name(&self) -> &str;
    /// Returns its row in a list.
    fn row(self, now: Timestamp) -> [String; 6];
    /// Returns everything about it.
    fn properties(&self, now: Timestamp) -> Table;

    /// Returns all there are.
    fn all(client: &Client) -> impl Future<Output = Result<Vec<Self>, ClientError>>;
    /// Returns the one of this name or id.
    fn get(client: &Client, name: &str) -> impl Future<Output = Result<Self, ClientError>>;
    /// Begins to make one.
    fn pull(client: &Client, request: &PullRequest) -> impl Future<Output = Result<Operation, ClientError>>;
    /// Begins to delete the one of this name or id.
    fn delete(client: &Client, name: &str) -> impl Future<Output = Result<Operation, ClientError>>;
}

/// The source that is read from standard input.
const STANDARD_INPUT: &str = "tar:-";

/// Lists them.
pub(super) async fn list<T: Artifact>(context: &Context, arguments: &ListArguments) -> Outcome {
    let artifacts = T::all(context.daemon().await?).await?;
    if context.printer.is_json() {
        context.printer.document(&artifacts)?;
    } else if arguments.quiet {
        context.printer.lines(artifacts.iter().map(Artifact::name))?;
    } else {
        let now = Timestamp::now();
        let mut table = Table::new(T::HEADINGS);
        for artifact in artifacts {
            table.row(artifact.row(now));
        }
        context.printer.table(&table)?;
    }
    Ok(DONE)
}

/// Shows everything about one.
pub(super) async fn show<T: Artifact>(context: &Context, arguments: &ArtifactArguments) -> Outcome {
    let artifact = T::get(context.daemon().await?, &arguments.name).await?;
    if context.printer.is_json() {
        context.printer.document(&artifact)?;
    } else {
        context.printer.table(&artifact.properties(Timestamp::now()))?;
    }
    Ok(DONE)
}

/// Makes one and prints its name.
pub(super) async fn pull<T: Artifact>(context: &Context, arguments: PullArguments) -> Outcome {
    let client = context.daemon().await?;
    let input = if arguments.source == STANDARD_INPUT { Some(Input::of(&arguments)?) } else { None };
    let source = input.as_ref().map_or(arguments.source, Input::source);
    let request = request(source, arguments.name)?;
    let operation = T::pull(client, &request).await?;
    await_made::<T>(context, client, operation, arguments.wait).await
}

/// Follows what makes one, and prints its name.
pub(super) async fn await_made<T: Artifact>(
    context: &Context,
    client: &Client,
    operation: Operation,
    wait: WaitOptions,
) -> Outcome {
    let Some(operation) = follow_or_print(context, operation, wait).await? else {
        return Ok(DONE);
    };
    if context.printer.is_json() {
        context.printer.document(&T::get(client, &operation.subject).await?)?;
    } else {
        context.printer.line(&operation.subject)?;
    }
    Ok(DONE)
}

/// Returns what the daemon is asked. A path is relative to where the user is, not to where the
/// daemon is; what is made is called by what the user typed all the same.
fn request(typed: String, name: Option<String>) -> Result<PullRequest, CommandError> {
    // What is no source the daemon refuses with better words.
    let Ok(mut source) = typed.parse::<ImageSource>() else { return Ok(PullRequest { source: typed, name }) };
    let Some(path) = source.path() else { return Ok(PullRequest { source: typed, name }) };
    let what = format!("cannot tell where '{}' is", path.display());
    source
        .set_path(absolute(path)?)
        .map_err(|error| CommandError::from(ApiError::caused_by(ErrorKind::Usage, what, &error)))?;
    Ok(PullRequest { source: source.to_string(), name: name.or(Some(typed)) })
}

/// Returns where a path leads from where the user is.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    std::path::absolute(path).map_err(|error| {
        let what = format!("cannot tell where '{}' is", path.display());
        CommandError::from(ApiError::caused_by(ErrorKind::Failed, what, &error))
    })
}

/// Deletes some, after asking.
pub(super) async fn remove<T: Artifact>(context: &Context, arguments: &DeleteArguments) -> Outcome {
    if !arguments.yes {
        confirm(&format!("Delete {} {}?", T::NOUN, quoted(&arguments.names)))?;
    }
    let client = context.daemon().await?;
    let mut failures = Failures::default();
    let names = &arguments.names;
    for (index, name) in names.iter().enumerate() {
        let deleted = async {
            let operation = T::delete(client, name).await?;
            let Some(operation) = follow_or_print(context, operation, arguments.wait).await? else {
                return Ok(());
            };
            if context.printer.is_json() {
                context.printer.item(&Deleted { deleted: &operation.subject })?;
            } else {
                context.printer.line(&operation.subject)?;
            }
            Ok(())
        };
        failures.note_one_of(context, deleted.await, &names[index + 1..])?;
    }
    failures.outcome()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_relative_to_where_the_user_is() {
        let asked = request("tar:some.tar".to_owned(), None).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(asked.source, format!("tar:{}", here.join("some.tar").display()));
        assert_eq!(asked.name.as_deref(), Some("tar:some.tar"));
        let asked = request("oci:./layout:tag".to_owned(), None).unwrap();
        assert_eq!(asked.source, format!("oci:{}:tag", here.join("layout").display()));
        let asked = request("debian:bookworm".to_owned(), None).unwrap();
        assert_eq!((asked.source.as_str(), asked.name), ("debian:bookworm", None));
    }
}
