//! What all pages have in common.

use axum::response::Response;
use banger_types::ApiError;
use banger_types::operation::{Operation, OperationStatus};
use banger_types::time::ago;
use banger_types::vm::VmState;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

use crate::answer::{Trouble, html};
use crate::assets;
use crate::form;
use crate::visit::Visit;

/// Parts of a page that are made anew when something changes: an id, and what is in it.
pub(crate) type Parts = Vec<(&'static str, Markup)>;

/// A page of a session.
pub(crate) struct Page<'a> {
    /// Its heading.
    pub(crate) title: &'a str,
    /// The page that it is found from, and what that is called.
    pub(crate) from: Option<(&'a str, &'a str)>,
    /// What its stream is asked for with, if it has parts that are live.
    pub(crate) live: Option<String>,
    /// Whether a browser without JavaScript loads it again and again.
    pub(crate) refreshes: bool,
    /// What is on it.
    pub(crate) body: Markup,
}

/// Pages that are reached from every other.
const PLACES: [(&str, &str); 9] = [
    ("/", "Dashboard"),
    ("/create", "Create VM"),
    ("/images", "Images"),
    ("/kernels", "Kernels"),
    ("/catalog", "Catalog"),
    ("/operations", "Operations"),
    ("/doctor", "Doctor"),
    ("/logs", "Logs"),
    ("/settings", "Settings"),
];

impl<'a> Page<'a> {
    /// Returns a page without a stream.
    pub(crate) const fn new(title: &'a str, body: Markup) -> Self {
        Self { title, from: None, live: None, refreshes: false, body }
    }

    /// Returns the page, which is found from another.
    pub(crate) const fn from(mut self, page: &'a str, label: &'a str) -> Self {
        self.from = Some((page, label));
        self
    }

    /// Returns the answer that it is.
    pub(crate) fn answer(self, visit: &Visit) -> Response {
        self.answer_with(visit, 200)
    }

    /// Returns the answer that it is, with a status.
    pub(crate) fn answer_with(self, visit: &Visit, status: u16) -> Response {
        html(status, self.markup(visit))
    }

    fn markup(self, visit: &Visit) -> Markup {
        let here = self.from.map_or("", |(page, _)| page);
        let live = self.live.map(|query| visit.to(&format!("/live?{query}")));
        html! {
            (DOCTYPE)
            html lang="en" {
                (head(self.title, self.refreshes))
                body data-live=[live] {
                    a.skip href="#main" { "Skip to the content" }
                    header {
                        a.brand href=(visit.to("/")) { "banger" }
                        nav aria-label="Pages" {
                            ul {
                                @for (page, label) in PLACES {
                                    @let is_here = label == self.title || page == here && page != "/";
                                    li { a href=(visit.to(page)) aria-current=[is_here.then_some("page")] { (label) } }
                                }
                            }
                        }
                        (form::button(visit, "/sign-out", "Sign out", &[]))
                    }
                    main id="main" tabindex="-1" {
                        @if let Some((page, label)) = self.from {
                            p.from { a href=(visit.to(page)) { "← " (label) } }
                        }
                        h1 { (self.title) }
                        @if let Some(message) = visit.message() {
                            p.notice.good role="status" { "✓ " (message) }
                        }
                        p.notice id="live-state" role="status" hidden {}
                        (self.body)
                    }
                }
            }
        }
    }
}

fn head(title: &str, refreshes: bool) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · banger" }
            link rel="stylesheet" href=(assets::address("console.css"));
            link rel="icon" type="image/svg+xml" href=(assets::address("icon.svg"));
            script src=(assets::address("console.js")) defer {}
            @if refreshes { noscript { meta http-equiv="refresh" content="2"; } }
        }
    }
}

/// Returns a page for somebody who has no session.
pub(crate) fn bare(status: u16, title: &str, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title, false))
            body.bare {
                main id="main" {
                    p.brand { "banger" }
                    h1 { (title) }
                    (body)
                }
            }
        }
    };
    html(status, page)
}

/// Returns trouble as a page for somebody who has no session.
pub(crate) fn bare_trouble(trouble: &Trouble) -> Response {
    bare(trouble.status, "That did not work", &explain(&trouble.error))
}

/// Returns trouble as a page of a session.
pub(crate) fn trouble(visit: &Visit, path: &str, trouble: &Trouble) -> Response {
    // The page that the thing itself is on is where most of what can go wrong was begun.
    let page = path.strip_prefix(visit.session.path().as_str()).unwrap_or_default();
    let thing = page.match_indices('/').nth(2).map(|(end, _)| &page[..end]);
    let body = html! {
        (explain(&trouble.error))
        @if let Some(operation) = &trouble.error.operation {
            p { a href=(visit.to(&format!("/operations/{operation}"))) { "The operation that this is about" } }
        }
        p.actions {
            @if let Some(thing) = thing.filter(|_| trouble.status != 404) {
                a.button href=(visit.to(thing)) { "Back" }
            }
            a.button href=(visit.to("/")) { "Dashboard" }
        }
    };
    Page::new("That did not work", body).answer_with(visit, trouble.status)
}

/// Returns an error in its three parts: what, why, what to do.
pub(crate) fn explain(error: &ApiError) -> Markup {
    html! {
        div.notice.bad role="alert" {
            p { strong { "✕ " (capital(&error.what)) "." } }
            @for why in &error.why { p { "Because: " (why) } }
            @if let Some(fix) = &error.fix { p { "What to do: " (commands(fix)) } }
        }
    }
}

/// Returns a text whose parts in backquotes are commands.
pub(crate) fn commands(text: &str) -> Markup {
    html! {
        @for (number, part) in text.split('`').enumerate() {
            @if number % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// Returns the text with a capital letter.
pub(crate) fn capital(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map(|first| first.to_uppercase().chain(rest).collect()).unwrap_or_default()
}

/// Returns parts that are live, each as a section.
pub(crate) fn sections(parts: &Parts) -> Markup {
    html! { @for (id, content) in parts { section id=(id) { (content) } } }
}

/// Returns how long ago something was, with the exact time for those who ask.
pub(crate) fn time(then: Timestamp) -> Markup {
    let exact = then.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    html! { time datetime=(then.strftime("%Y-%m-%dT%H:%M:%SZ")) title=(exact) { (ago(then, Timestamp::now())) } }
}

/// Returns a VM's state: a sign and a word, so that its colour is not needed.
pub(crate) fn vm_state(state: VmState) -> Markup {
    let (sign, tone) = match state {
        VmState::Running => ("▶", "good"),
        VmState::Paused => ("‖", "calm"),
        VmState::Stopped => ("■", "calm"),
        VmState::Failed => ("✕", "bad"),
        VmState::Creating | VmState::Starting => ("◔", "busy"),
        VmState::Stopping | VmState::Deleting => ("◕", "busy"),
    };
    badge(sign, tone, &state.to_string())
}

/// Returns where an operation stands, likewise.
pub(crate) fn operation_state(status: OperationStatus) -> Markup {
    let (sign, tone) = match status {
        OperationStatus::Pending => ("…", "calm"),
        OperationStatus::Running => ("◔", "busy"),
        OperationStatus::Cancelling => ("◕", "busy"),
        OperationStatus::Succeeded => ("✓", "good"),
        OperationStatus::Failed => ("✕", "bad"),
        OperationStatus::Cancelled => ("⊘", "calm"),
    };
    badge(sign, tone, &status.to_string())
}

/// Returns a word with a sign before it.
pub(crate) fn badge(sign: &str, tone: &str, word: &str) -> Markup {
    html! { span class=(format!("badge {tone}")) { span aria-hidden="true" { (sign) } " " (word) } }
}

/// Returns what an operation does, as a link to its page.
pub(crate) fn operation_link(visit: &Visit, operation: &Operation) -> Markup {
    html! {
        a href=(visit.to(&format!("/operations/{}", operation.id))) {
            (operation.kind.describe()) " “" (operation.subject) "”"
        }
    }
}

/// Returns rows of a name and a value each, but for empty ones.
pub(crate) fn facts(rows: Vec<(&str, Markup)>) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in rows.into_iter().filter(|(_, value)| !value.0.is_empty()) {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// Returns a text as it is.
pub(crate) fn text(text: impl AsRef<str>) -> Markup {
    html! { (text.as_ref()) }
}

/// Returns several, one below the other.
pub(crate) fn lines<T: AsRef<str>>(all: impl IntoIterator<Item = T>) -> Markup {
    let all: Vec<T> = all.into_iter().collect();
    html! { @if !all.is_empty() { ul.plain { @for one in &all { li { (one.as_ref()) } } } } }
}

/// Returns the question before something is lost: what it is, what goes with it, and two ways on.
pub(crate) fn confirm(
    visit: &Visit,
    action: &str,
    back: &str,
    label: &str,
    fields: &[(&str, &str)],
    lost: &Markup,
) -> Markup {
    html! {
        div.notice.warn { (lost) }
        form method="post" action=(visit.to(action)) {
            (form::key(visit))
            @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
            p.actions {
                button.danger type="submit" { (label) }
                a.button href=(visit.to(back)) { "Cancel" }
            }
        }
    }
}
