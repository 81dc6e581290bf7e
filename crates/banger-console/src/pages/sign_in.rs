//! Signing in: by a link that is good once, and a button on the page that it shows. Whatever looks at links by itself presses none.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use banger_types::{ApiError, ErrorKind};
use maud::{Markup, html};

use crate::App;
use crate::answer::{Answer, Trouble, see_other};
use crate::layout::bare;
use crate::session::Refused;
use crate::visit::{Posted, read};

/// `GET /`
pub(crate) async fn explain() -> Response {
    bare(200, "Sign in", &how())
}

/// The answer to whoever asks for a page and has no session.
pub(crate) fn not_signed_in() -> Response {
    let body = html! {
        div.notice.bad role="alert" {
            p { strong { "✕ You are not signed in here." } }
            p { "Because: a session ends after a day, when you sign out, and when bangerd is restarted; and it is good in one browser alone." }
        }
        (how())
    };
    bare(403, "Sign in", &body)
}

fn how() -> Markup {
    html! {
        p { "This is the web console of banger. It lets in whoever has a link that was made a moment ago. In a terminal:" }
        pre { "banger web --open" }
        p.hint { code { "banger web" } " prints the link; so does " code { "banger daemon status" } "." }
    }
}

/// `GET /sign-in/TOKEN`: spends nothing.
pub(crate) async fn offer(Path(token): Path<String>) -> Response {
    let body = html! {
        p { "This link is good once, and lets this browser in for a day." }
        form method="post" action="/sign-in" {
            input type="hidden" name="token" value=(token);
            p.actions { button.primary type="submit" autofocus { "Sign in" } }
        }
    };
    bare(200, "Sign in", &body)
}

/// `POST /sign-in`
pub(crate) async fn accept(State(app): State<Arc<App>>, request: Request) -> Answer {
    let form = read(request.into_body()).await?;
    let accepted = app.sessions.accept(form.get("token")).map_err(|error| {
        Trouble::from(ApiError::caused_by(ErrorKind::Failed, "cannot begin a session", &error))
    })?;
    match accepted {
        Ok(session) => {
            let mut response = see_other(&format!("{}/", session.path()));
            let cookie = HeaderValue::try_from(session.cookie()).map_err(|error| {
                Trouble::from(ApiError::caused_by(ErrorKind::Failed, "cannot begin a session", &error))
            })?;
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            Ok(response)
        }
        Err(Refused::Unknown) => {
            let error = ApiError::new(ErrorKind::NotPermitted, "this sign-in link is not good")
                .because("it has been used, is older than ten minutes, or was made by a bangerd that has ended since")
                .fix("`banger web` makes another one");
            Err(error.into())
        }
        Err(Refused::TooMany) => {
            let error = ApiError::new(ErrorKind::NotPermitted, "nobody is let in at the moment")
                .because("somebody has tried many links that are not good")
                .fix("try again in a minute; this link was not used up");
            Err(Trouble::with_status(429, error))
        }
    }
}

/// `POST /sign-out`
pub(crate) async fn leave(Posted(visit, _): Posted) -> Response {
    visit.app.sessions.end(&visit.session);
    see_other("/")
}
