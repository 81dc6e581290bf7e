//! What a page comes to: an answer, or what has gone wrong.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use banger_api::ClientError;
use banger_types::{ApiError, ErrorKind};
use maud::Markup;

/// What has gone wrong. It becomes a page once it is known whose.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    /// The HTTP status.
    pub(crate) status: u16,
    /// What, why, and what to do.
    pub(crate) error: ApiError,
}

/// What a page's handler returns.
pub(crate) type Answer = Result<Response, Trouble>;

impl Trouble {
    /// Returns trouble with a status of its own.
    pub(crate) const fn with_status(status: u16, error: ApiError) -> Self {
        Self { status, error }
    }

    /// Returns the trouble with advice.
    pub(crate) fn fix(mut self, advice: String) -> Self {
        self.error.fix = Some(advice);
        self
    }

    /// Returns that there is no such page.
    pub(crate) fn no_page() -> Self {
        let error = ApiError::new(ErrorKind::NotFound, "the web console has no such page");
        Self::from(error.fix("begin at the dashboard"))
    }
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self { status: error.kind.http_status(), error }
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Api(error) => error.into(),
            error => {
                ApiError::caused_by(ErrorKind::Unreachable, "bangerd does not answer the web console", &error)
                    .fix("reload the page; `banger daemon status` says whether bangerd runs")
                    .into()
            }
        }
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Returns a page.
pub(crate) fn html(status: u16, page: Markup) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page.into_string()).into_response()
}

/// Leads the browser to another page, which it asks for with GET (RFC 9110 section 15.4.4).
pub(crate) fn see_other(address: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, address)]).into_response()
}
