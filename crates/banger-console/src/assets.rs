//! What pages are made with beside HTML. It is part of the program, or beside it, and nobody's secret.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use crate::App;
use crate::answer::{Answer, Trouble};

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const ALL: [Asset; 4] = [
    Asset {
        name: "console.css",
        kind: "text/css; charset=utf-8",
        content: include_bytes!("assets/console.css"),
    },
    Asset {
        name: "console.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("assets/console.js"),
    },
    Asset {
        name: "terminal.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("assets/terminal.js"),
    },
    Asset { name: "icon.svg", kind: "image/svg+xml", content: include_bytes!("assets/icon.svg") },
];

/// Changes with any of them, so that a browser may keep them: FNV-1a with 64 bits (Fowler, Noll, Vo).
const VERSION: u64 = {
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    let mut asset = 0;
    while asset < ALL.len() {
        let mut byte = 0;
        while byte < ALL[asset].content.len() {
            digest = (digest ^ ALL[asset].content[byte] as u64).wrapping_mul(0x0100_0000_01b3);
            byte += 1;
        }
        asset += 1;
    }
    digest
};

/// Returns an asset's address.
pub(crate) fn address(name: &str) -> String {
    format!("/assets/{name}?{VERSION:016x}")
}

/// `GET /assets/NAME`
pub(crate) async fn serve(State(app): State<Arc<App>>, Path(name): Path<String>) -> Answer {
    if let Some(asset) = ALL.iter().find(|asset| asset.name == name) {
        return Ok(response(asset.kind, "max-age=86400, immutable", asset.content));
    }
    let (kind, content) = app.terminal.read(&name).await.ok_or_else(Trouble::no_page)?;
    Ok(response(kind, "no-cache", content))
}

fn response(kind: &str, keep: &str, content: impl Into<axum::body::Body>) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, keep)], content.into()).into_response()
}

/// The files of xterm.js, as its packages have them, and their kinds. They are fetched when banger is built or packaged.
const TERMINAL: [(&str, &str); 3] = [
    ("xterm.mjs", "text/javascript; charset=utf-8"),
    ("addon-fit.mjs", "text/javascript; charset=utf-8"),
    ("xterm.css", "text/css; charset=utf-8"),
];

/// Where the files of xterm.js are, if they are.
#[derive(Debug)]
pub(crate) struct TerminalFiles(PathBuf);

impl TerminalFiles {
    /// Returns those of this directory.
    pub(crate) const fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Returns which one is not there.
    pub(crate) fn missing(&self) -> Option<String> {
        let mut all = TERMINAL.iter().map(|(name, _)| self.0.join(name));
        all.find(|path| !path.is_file()).map(|path| path.display().to_string())
    }

    async fn read(&self, name: &str) -> Option<(&'static str, Vec<u8>)> {
        let (name, kind) = TERMINAL.iter().find(|(known, _)| *known == name)?;
        let path = self.0.join(name);
        let content = tokio::task::spawn_blocking(move || fs_err::read(path)).await.ok()?.ok()?;
        Some((kind, content))
    }
}
