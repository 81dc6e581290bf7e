//! `banger image …`.

use banger_api::request::PullRequest;
use banger_types::size::human_bytes;
use banger_types::{ApiError, ErrorKind};
use jiff::Timestamp;

use super::{DONE, Deleted, Failures, Outcome, confirm, follow_or_print, quoted};
use crate::arguments::{DeleteArguments, ListArguments, PullArguments};
use crate::context::Context;
use crate::error::CommandError;
use crate::printer::{Table, ago};

/// Lists images.
pub(super) async fn list(context: &Context, arguments: &ListArguments) -> Outcome {
    let images = context.daemon().await?.images().await?;
    if context.printer.is_json() {
        context.printer.document(&images)?;
    } else if arguments.quiet {
        images.iter().try_for_each(|image| context.printer.line(&image.name))?;
    } else {
        let now = Timestamp::now();
        let mut table = Table::new(["NAME", "ID", "SIZE", "ON DISK", "CREATED", "SOURCE"]);
        for image in images {
            table.row([
                image.name,
                image.id.to_string(),
                human_bytes(image.size),
                human_bytes(image.disk_usage),
                ago(image.created_at, now),
                image.source,
            ]);
        }
        context.printer.table(&table)?;
    }
    Ok(DONE)
}

/// Returns what the daemon is asked. A path is relative to where the user is, not to where the daemon is; the image is
/// called by what the user typed all the same.
fn request(typed: String, name: Option<String>) -> Result<PullRequest, CommandError> {
    let Some(path) = typed.strip_prefix("tar:").filter(|path| !path.is_empty()) else {
        return Ok(PullRequest { source: typed, name });
    };
    let what = || format!("cannot tell where '{path}' is");
    let absolute = std::path::absolute(path)
        .map_err(|error| CommandError::from(ApiError::caused_by(ErrorKind::Failed, what(), &error)))?;
    // A path that is not UTF-8 could not have been typed: arguments are text.
    let source = format!("tar:{}", absolute.to_string_lossy());
    Ok(PullRequest { source, name: name.or(Some(typed)) })
}

/// Makes an image and prints its name.
pub(super) async fn pull(context: &Context, arguments: PullArguments) -> Outcome {
    let client = context.daemon().await?;
    let request = request(arguments.source, arguments.name)?;
    let operation = client.pull_image(&request).await?;
    let Some(operation) = follow_or_print(context, operation, arguments.wait).await? else {
        return Ok(DONE);
    };
    if context.printer.is_json() {
        let name = &operation.subject;
        let image = client.images().await?.into_iter().find(|image| image.name == *name);
        let image = image.ok_or_else(|| {
            CommandError::failed(
                ErrorKind::NotFound,
                format!("image '{name}' was made and is gone again"),
                "banger image ls",
            )
        })?;
        context.printer.document(&image)?;
    } else {
        context.printer.line(&operation.subject)?;
    }
    Ok(DONE)
}

/// Deletes images, after asking.
pub(super) async fn remove(context: &Context, arguments: &DeleteArguments) -> Outcome {
    if !arguments.yes {
        confirm(&format!("Delete image {}?", quoted(&arguments.names)))?;
    }
    let client = context.daemon().await?;
    let mut failures = Failures::default();
    for name in &arguments.names {
        let deleted = async {
            client.delete_image(name).await?;
            if context.printer.is_json() {
                context.printer.item(&Deleted { deleted: name })?;
            } else {
                context.printer.line(name)?;
            }
            Ok(())
        };
        failures.note(context, deleted.await)?;
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
        let asked = request("debian:bookworm".to_owned(), None).unwrap();
        assert_eq!((asked.source.as_str(), asked.name), ("debian:bookworm", None));
    }
}
