//! Choosing a file or a folder of the host's, for a field of a form.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use axum::http::header;
use axum::response::IntoResponse as _;
use banger_types::size::binary_bytes;
use banger_types::{ApiError, ErrorKind};
use maud::{Markup, html};
use serde_json::json;

use crate::answer::{Answer, Trouble};
use crate::browse::{Entry, Kind, Listing, Look, PAGE, Wanted, look};
use crate::form::Form;
use crate::layout::{Page, explain};
use crate::visit::{Visit, query_of};

/// Pages that a file is chosen for.
const FORMS: [&str; 5] = ["/create", "/pull/image", "/pull/kernel", "/register/image", "/register/kernel"];
/// Fields that a path is chosen for.
const FIELDS: [&str; 4] = ["source", "rootfs", "kernel", "initrd"];
/// What a path may have before it.
const PREFIXES: [&str; 7] = ["", "tar:", "oci-archive:", "docker-archive:", "oci:", "dir:", "dockerfile:"];

/// No folder has as many pages.
const LAST_PAGE: usize = 1 << 24;

/// What is chosen, and for what.
struct Choice {
    back: String,
    field: String,
    prefix: String,
    wanted: Wanted,
    hidden: bool,
}

impl Choice {
    fn of(visit: &Visit) -> Result<Self, Trouble> {
        let back = visit.query("back");
        let page = back.split('?').next().unwrap_or_default();
        let (field, prefix) = (visit.query("field"), visit.query("prefix"));
        if !FORMS.contains(&page) || !FIELDS.contains(&field) || !PREFIXES.contains(&prefix) {
            return Err(Trouble::no_page());
        }
        Ok(Self {
            back: back.to_owned(),
            field: field.to_owned(),
            prefix: prefix.to_owned(),
            wanted: Wanted::from_name(visit.query("kind")),
            hidden: visit.query("hidden") == "yes",
        })
    }

    /// Returns the address of the picker itself, at a path.
    fn at(&self, visit: &Visit, path: &str, page: usize, wanted: Wanted, hidden: bool) -> String {
        let page = if page == 0 { String::new() } else { page.to_string() };
        let query = query_of(&[
            ("back", &self.back),
            ("field", &self.field),
            ("prefix", &self.prefix),
            ("kind", wanted.name()),
            ("hidden", if hidden { "yes" } else { "" }),
            ("path", path),
            ("page", &page),
        ]);
        visit.to(&format!("/picker?{query}"))
    }

    /// Returns the address of the form, with a path filled in.
    fn take(&self, visit: &Visit, path: &str) -> String {
        let (page, query) = self.back.split_once('?').unwrap_or((&self.back, ""));
        let kept = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| *name != self.field);
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(kept).append_pair(&self.field, &format!("{}{path}", self.prefix));
        visit.to(&format!("{page}?{}", query.finish()))
    }
}

/// `GET /picker`
pub(crate) async fn show(visit: Visit) -> Answer {
    let choice = Choice::of(&visit)?;
    let path = match visit.query("path") {
        "" => home(),
        path => path.to_owned(),
    };
    let page = visit.query("page").parse::<usize>().unwrap_or_default().min(LAST_PAGE);
    let (looked, wanted, hidden) = (path.clone(), choice.wanted, choice.hidden);
    // Somebody's network share may take its time.
    let listing =
        tokio::task::spawn_blocking(move || look(&Look { path: &looked, wanted, hidden, page })).await;
    let listing = listing.map_err(|error| {
        Trouble::from(ApiError::caused_by(ErrorKind::Failed, "cannot look at the host's files", &error))
    })?;
    let shown = match &listing {
        Ok(listing) => html! { (folder(&visit, &choice, listing, page)) },
        Err(error) => html! { (explain(&told(&path, error))) },
    };
    let status = if listing.is_ok() { 200 } else { 422 };
    let body = html! {
        section {
            (typed(&visit, &choice, &path))
            p.actions {
                @for (wanted, _, label) in Wanted::ALL {
                    @let here = wanted == choice.wanted;
                    a href=(choice.at(&visit, &path, 0, wanted, choice.hidden)) aria-current=[here.then_some("true")] {
                        @if here { strong { (label) } } @else { (label) }
                    }
                }
                a.button href=(visit.to(&choice.back)) { "Cancel" }
            }
        }
        (shown)
    };
    Ok(Page::new("Choose a file of this host", body).answer_with(&visit, status))
}

/// Most names that are offered while a path is typed.
const OFFERED: usize = 30;

/// `GET /picker/complete`: what a path may go on with, as JSON, for a list below its field.
pub(crate) async fn complete(visit: Visit) -> Answer {
    let typed = visit.query("path").to_owned();
    let prefix =
        PREFIXES.iter().rev().find(|prefix| typed.starts_with(**prefix)).copied().unwrap_or_default();
    let (path, wanted) = (typed[prefix.len()..].to_owned(), Wanted::from_name(visit.query("kind")));
    // Names that begin with a full stop are offered to whoever types one.
    let hidden = path.rsplit('/').next().is_some_and(|name| name.starts_with('.'));
    let looked = tokio::task::spawn_blocking(move || completions(&path, wanted, hidden)).await;
    let paths: Vec<String> =
        looked.unwrap_or_default().iter().map(|path| format!("{prefix}{path}")).collect();
    Ok(([(header::CONTENT_TYPE, "application/json")], json!(paths).to_string()).into_response())
}

/// Returns paths that begin as this does; none where nothing can be looked at. Blocks.
fn completions(path: &str, wanted: Wanted, hidden: bool) -> Vec<String> {
    let Ok(listing) = look(&Look { path, wanted, hidden, page: 0 }) else { return Vec::new() };
    // A directory's name without a slash after it goes on with the slash.
    if listing.beginning.is_none() && listing.file.is_none() && !path.ends_with('/') {
        return vec![format!("{path}/")];
    }
    let paths = listing.entries.iter().filter_map(|entry| {
        let path = listing.directory.join(&entry.name);
        let path = typable(&path)?;
        match entry.kind {
            Kind::Directory => Some(format!("{path}/")),
            Kind::File => Some(path.to_owned()),
            Kind::Other => None,
        }
    });
    paths.take(OFFERED).collect()
}

fn home() -> String {
    std::env::var("HOME").ok().filter(|home| home.starts_with('/')).unwrap_or_else(|| "/".to_owned())
}

/// Returns what is to be said of a path that cannot be looked at.
fn told(path: &str, error: &io::Error) -> ApiError {
    let what = format!("cannot show '{path}'");
    let (kind, fix) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorKind::NotFound, "begin at a folder that is there, as /home"),
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::NotPermitted, "bangerd looks with your own rights; `ls -ld` says whose it is")
        }
        _ => (ErrorKind::Usage, "type the path of a folder of yours"),
    };
    ApiError::caused_by(kind, what, error).fix(fix)
}

fn typed(visit: &Visit, choice: &Choice, path: &str) -> Markup {
    let mut form = Form::default();
    form.suggest("path", path);
    html! {
        form method="get" action=(visit.to("/picker")) role="search" {
            @for (name, value) in [("back", choice.back.as_str()), ("field", &choice.field), ("prefix", &choice.prefix), ("kind", choice.wanted.name())] {
                input type="hidden" name=(name) value=(value);
            }
            (form.typed_path("path", "Path", "a folder, a file, or the beginning of a name", "/home", &completing(visit, choice.wanted.name())))
            p.tick {
                input type="checkbox" id="hidden" name="hidden" value="yes" checked[choice.hidden];
                label for="hidden" { "Show hidden names, too" }
            }
            button type="submit" { "Go there" }
        }
    }
}

fn folder(visit: &Visit, choice: &Choice, listing: &Listing, page: usize) -> Markup {
    let directory = listing.directory.display().to_string();
    let at = |path: &str, page| choice.at(visit, path, page, choice.wanted, choice.hidden);
    let more = (page + 1).saturating_mul(PAGE) < listing.count;
    let pages = html! {
        @if page > 0 || more {
            p.actions {
                @if page > 0 { a.button href=(at(&searched(listing), page - 1)) { "Those before" } }
                @if more { a.button href=(at(&searched(listing), page + 1)) { "Those after" } }
                span.soft { (page * PAGE + 1) " to " ((page * PAGE + listing.entries.len()).max(1)) " of " (listing.count) }
            }
        }
    };
    html! {
        section {
            h2 { (crumbs(&listing.directory, &at)) }
            @if let Some(file) = listing.file.as_deref().and_then(Path::to_str) {
                p { a.button.primary href=(choice.take(visit, file)) { "Take " (file) } }
            }
            @if choice.wanted == Wanted::Folder {
                p { a.button.primary href=(choice.take(visit, &directory)) { "Take this folder" } }
            }
            @if let Some(beginning) = &listing.beginning { p.hint { "Names that begin with “" (beginning) "”." } }
            (pages)
            @if listing.entries.is_empty() {
                p.empty { "There is nothing of that here." @if listing.hidden > 0 { " " (listing.hidden) " names are hidden." } }
            } @else {
                table {
                    thead { tr { th scope="col" { "Name" } th scope="col" { "Kind" } th.number scope="col" { "Size" } } }
                    tbody { @for entry in &listing.entries { (row(visit, choice, &listing.directory, entry)) } }
                }
            }
            (pages)
        }
    }
}

/// Returns where a field asks how its path may go on.
pub(super) fn completing(visit: &Visit, kind: &str) -> String {
    visit.to(&format!("/picker/complete?{}", query_of(&[("kind", kind)])))
}

/// Returns what has to be typed to see a listing.
fn searched(listing: &Listing) -> String {
    let path = match &listing.beginning {
        Some(beginning) => listing.directory.join(beginning),
        None => listing.directory.clone(),
    };
    path.display().to_string()
}

fn row(visit: &Visit, choice: &Choice, directory: &Path, entry: &Entry) -> Markup {
    let path: PathBuf = directory.join(&entry.name);
    let path = typable(&path);
    let name = shown(&entry.name);
    let kind = match entry.kind {
        Kind::Directory => "folder",
        Kind::File => "file",
        Kind::Other => "other",
    };
    html! {
        tr {
            th scope="row" {
                @match (path, entry.kind) {
                    (Some(path), Kind::Directory) => a href=(choice.at(visit, path, 0, choice.wanted, choice.hidden)) { (name) "/" },
                    (Some(path), Kind::File) => a href=(choice.take(visit, path)) { (name) },
                    _ => (name),
                }
                @if let Some(link) = &entry.link { span.soft { " → " (shown(link.as_os_str())) } }
            }
            td { (kind) @if entry.link.is_some() { ", by a link" } }
            td.number { @if let Some(size) = entry.size { (binary_bytes(size)) } }
        }
    }
}

/// Returns a path as it is in a form: what is no text can be in none.
fn typable(path: &Path) -> Option<&str> {
    path.to_str().filter(|path| !path.chars().any(char::is_control))
}

fn shown(name: &OsStr) -> String {
    name.to_string_lossy().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn crumbs(directory: &Path, at: &impl Fn(&str, usize) -> String) -> Markup {
    let mut all: Vec<&Path> = directory.ancestors().collect();
    all.reverse();
    html! {
        @for (number, path) in all.iter().enumerate() {
            @let name = path.file_name().map_or_else(|| "/".to_owned(), shown);
            @if number > 1 { "/" }
            @match path.to_str() {
                Some(path) => a href=(at(path, 0)) { (name) },
                None => (name),
            }
        }
    }
}
