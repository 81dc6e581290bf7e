//! `banger web`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use banger_types::web::SignInLink;
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;

use super::{DONE, Outcome};
use crate::arguments::WebArguments;
use crate::context::Context;
use crate::error::CommandError;

/// What opens a browser, in the order in which they are tried.
const OPENERS: [&str; 2] = ["xdg-open", "sensible-browser"];

/// The page that leads on to the link, in the data directory.
const PAGE: &str = "sign-in.html";

/// Makes a sign-in link, and prints or opens it.
pub(super) async fn web(context: &Context, arguments: &WebArguments) -> Outcome {
    let client = context.daemon().await?;
    let link = client.create_sign_in_link().await?;
    if arguments.open {
        // What the daemon says, which may have another data directory by now than this environment.
        let data = client.system().await?.data_directory;
        return open(context, &data, &link);
    }
    if context.printer.is_json() {
        context.printer.document(&link)?;
    } else {
        context.printer.line(&link.url)?;
        context.printer.note("the link is good once, for ten minutes");
    }
    Ok(DONE)
}

/// Opens a link in the user's browser: by a file that the user alone can read, for others can read command lines.
fn open(context: &Context, data: &Path, link: &SignInLink) -> Outcome {
    let page = write(data, &link.url)
        .map_err(|source| CommandError::io("cannot write the page that leads to the web console", &source))?;
    for opener in OPENERS {
        let mut command = Command::new(opener);
        command.arg(&page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status() {
            Ok(status) if status.success() => {
                context.printer.note("the web console is being opened in your browser");
                return Ok(DONE);
            }
            // Another one may be there, or know of a browser.
            Ok(_) | Err(_) => {}
        }
    }
    Err(CommandError::failed(
        banger_types::ErrorKind::NotPermitted,
        "there is no program here that opens a browser",
        "banger web prints the link; open it yourself",
    ))
}

fn write(data: &Path, url: &str) -> io::Result<PathBuf> {
    let page = data.join(PAGE);
    // Made anew: one that is there may be open to others.
    match fs::remove_file(&page) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&page)?;
    // Nothing in the address needs an escape: it is a host, a port and hexadecimal digits.
    writeln!(
        file,
        "<!DOCTYPE html><meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\">\
         <meta http-equiv=\"refresh\" content=\"0; url={url}\"><title>banger</title>\
         <a href=\"{url}\">To the web console</a>"
    )?;
    Ok(page)
}
