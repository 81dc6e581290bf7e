//! What the daemon says.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use banger_types::{ApiError, ErrorKind};
use maud::html;

use crate::answer::{Answer, Trouble};
use crate::layout::Page;
use crate::plain::plain;
use crate::visit::Visit;

/// How much of its end is shown, bytes.
const SHOWN: u64 = 128 << 10;

/// `GET /logs`
pub(crate) async fn show(visit: Visit) -> Answer {
    let system = visit.client().system().await?;
    let path = system.log.clone();
    let read = tokio::task::spawn_blocking(move || end_of(&path)).await;
    let cannot = |error: &dyn std::error::Error| {
        Trouble::from(ApiError::caused_by(ErrorKind::Failed, "cannot read bangerd's log", error))
    };
    let log = read.map_err(|error| cannot(&error))?.map_err(|error| cannot(&error))?;
    let body = html! {
        section {
            p { "The end of " code { (system.log.display()) } ". VMs' own logs are on their pages." }
            @if log.is_empty() { p.empty { "Nothing was said yet." } } @else {
                pre id="log" tabindex="0" role="region" aria-label="bangerd's log" { (log) }
            }
        }
        p.hint { "Reload the page for what has come since. In a terminal: " code { "banger daemon logs" } "." }
    };
    Ok(Page::new("Logs", body).answer(&visit))
}

fn end_of(path: &Path) -> io::Result<String> {
    let mut file = fs_err::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(SHOWN)))?;
    let mut end = Vec::new();
    file.take(SHOWN).read_to_end(&mut end)?;
    let text = plain(&end);
    // A line whose beginning is not there says little.
    Ok(if length > SHOWN {
        text.split_once('\n').map_or_else(String::new, |(_, rest)| rest.to_owned())
    } else {
        text
    })
}
