//! A request to a page of a session.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::response::Response;
use banger_api::Client;
use banger_types::operation::Operation;
use banger_types::{ApiError, ErrorKind};
use futures_util::StreamExt as _;
use maud::{Markup, html};

use crate::App;
use crate::answer::{Trouble, see_other};
use crate::form::Form;
use crate::session::Session;

/// Most that a form may be, bytes.
const LARGEST_FORM: usize = 128 << 10;
/// How much of one that is larger is read all the same, bytes: who is not heard out does not hear the answer.
const MOST_READ: usize = 4 << 20;
/// How long a form may take to come.
const FORM_TIME: Duration = Duration::from_secs(10);
/// The part of a query that says what is to be said.
const MESSAGE: &str = "said";

/// Who asks, and for what.
#[derive(Clone)]
pub(crate) struct Visit {
    pub(crate) app: Arc<App>,
    pub(crate) session: Arc<Session>,
    query: Vec<(String, String)>,
}

impl Visit {
    /// Returns a visit of a session.
    pub(crate) fn new(app: &Arc<App>, session: Arc<Session>, query: &str) -> Self {
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Self { app: Arc::clone(app), session, query }
    }

    /// Returns the daemon's client.
    pub(crate) fn client(&self) -> &Client {
        &self.app.client
    }

    /// Returns the address of one of the session's pages.
    pub(crate) fn to(&self, page: &str) -> String {
        format!("{}{page}", self.session.path())
    }

    /// Returns a part of the query, without blanks around it; empty if it is not there.
    pub(crate) fn query(&self, name: &str) -> &str {
        self.query.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim())
    }

    /// Returns the query as a form that was filled in.
    pub(crate) fn as_form(&self) -> Form {
        Form::new(self.query.clone())
    }

    /// Returns what is to be said on this page, once.
    pub(crate) fn message(&self) -> Option<String> {
        self.query(MESSAGE).parse().ok().and_then(|number| self.session.take(number))
    }

    /// Leads on to a page that says this.
    pub(crate) fn go(&self, page: &str, message: impl Into<String>) -> Response {
        let number = self.session.leave(message.into());
        let joint = if page.contains('?') { '&' } else { '?' };
        see_other(&self.to(&format!("{page}{joint}{MESSAGE}={number}")))
    }

    /// Leads on to the page of an operation that has begun.
    pub(crate) fn follow(&self, operation: &Operation) -> Response {
        self.go(&format!("/operations/{}", operation.id), "Begun. This page shows how far it is.")
    }
}

/// Returns a name as it stands in a path, so that it is one part of it.
pub(crate) fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Returns a query of these parts, but for empty ones.
pub(crate) fn query_of(parts: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parts.iter().filter(|(_, value)| !value.is_empty()));
    query.finish()
}

/// Returns the page that a form's cancel leads back to: the one that it was opened from, if that is a page of a session's.
pub(crate) fn back_of(form: &Form, usual: &str) -> String {
    let back = form.get("back");
    let is_page =
        back.starts_with('/') && !back.starts_with("//") && !back.split(['/', '?']).any(|part| part == "..");
    if is_page && !back.chars().any(|c| c.is_control() || c == '\\') {
        back.to_owned()
    } else {
        usual.to_owned()
    }
}

/// Returns the hidden field that remembers it.
pub(crate) fn came_from(form: &Form) -> Markup {
    html! { @if let Some(back) = form.text("back") { input type="hidden" name="back" value=(back); } }
}

impl FromRequestParts<Arc<App>> for Visit {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Trouble> {
        let session = parts.extensions.get::<Arc<Session>>().cloned().ok_or_else(Trouble::no_page)?;
        Ok(Self::new(app, session, parts.uri.query().unwrap_or_default()))
    }
}

/// A form that was sent, with the session's key. There is no other way to a change.
pub(crate) struct Posted(pub(crate) Visit, pub(crate) Form);

impl FromRequest<Arc<App>> for Posted {
    type Rejection = Trouble;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Trouble> {
        let (mut parts, body) = request.into_parts();
        let visit = Visit::from_request_parts(&mut parts, app).await?;
        let form = read(body).await?;
        if !visit.session.has_form_key(form.get("key")) {
            let error = ApiError::new(ErrorKind::NotPermitted, "this form is not of this session")
                .because("it does not have the session's key")
                .fix("open the page anew, and send the form from there");
            return Err(error.into());
        }
        Ok(Self(visit, form))
    }
}

/// Reads a form.
pub(crate) async fn read(body: Body) -> Result<Form, Trouble> {
    let trouble = |status, why: String| {
        let error = ApiError::new(ErrorKind::Usage, "cannot read the form").because(why);
        Trouble::with_status(status, error)
    };
    match tokio::time::timeout(FORM_TIME, collect(body)).await {
        Ok(Some(bytes)) => Ok(Form::new(form_urlencoded::parse(&bytes).into_owned().collect())),
        Ok(None) => Err(trouble(
            413,
            format!("it is larger than {} KiB, or did not come to its end", LARGEST_FORM >> 10),
        )),
        Err(_) => Err(trouble(408, format!("it did not come within {} seconds", FORM_TIME.as_secs()))),
    }
}

/// Returns what has come; nothing if that is too much, or did not come to its end.
async fn collect(body: Body) -> Option<Vec<u8>> {
    let mut pieces = body.into_data_stream();
    let (mut all, mut count) = (Vec::new(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.ok()?;
        count += piece.len();
        if count > MOST_READ {
            return None;
        }
        if count > LARGEST_FORM {
            all.clear();
        } else {
            all.extend_from_slice(&piece);
        }
    }
    (count <= LARGEST_FORM).then_some(all)
}
