//! What pages are made with beside HTML. It is part of the program, and nobody's secret.

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use crate::answer::{Answer, Trouble};

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const ALL: [Asset; 3] = [
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
pub(crate) async fn serve(Path(name): Path<String>) -> Answer {
    let asset = ALL.iter().find(|asset| asset.name == name).ok_or_else(Trouble::no_page)?;
    let headers = [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, "max-age=86400, immutable")];
    let response: Response = (headers, asset.content).into_response();
    Ok(response)
}
