//! What every answer has in common.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use banger_api::route;
use banger_types::operation::Operation;
use banger_types::problem::{MEDIA_TYPE, Problem};
use banger_types::{ApiError, ErrorKind};

use crate::failure::failed;

/// An [`ApiError`] on its way to a client.
pub(crate) struct Failure(pub(crate) ApiError);

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        problem(self.0.kind.http_status(), self.0)
    }
}

/// Returns an error as an answer with a status of its own (RFC 9457).
fn problem(status: u16, error: ApiError) -> Response {
    let problem = Json(Problem::with_status(error, status));
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], problem).into_response()
}

/// What a handler returns.
pub(crate) type Answer<T> = Result<T, Failure>;

/// Does something that is no operation, to its end even if its client goes: what is half deleted would be in nobody's list.
pub(super) async fn to_the_end<T: Send + 'static>(
    what: &str,
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work).await.map_err(|error| failed(format!("cannot {what}"), &error))?
}

/// Work that has begun: 202, with the operation and its address.
pub(crate) struct Begun(pub(crate) Operation);

impl IntoResponse for Begun {
    fn into_response(self) -> Response {
        let location = route::path(route::OPERATION, self.0.id.as_str());
        (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(self.0)).into_response()
    }
}

/// Most that a request's body may have, bytes.
pub(super) const BODY_LIMIT: usize = 1 << 20;

pub(super) fn too_large() -> Response {
    let error = ApiError::new(ErrorKind::Usage, "the request's body is too large")
        .because(format!("it may have {BODY_LIMIT} bytes"));
    problem(413, error)
}

/// A part of a list, with the address of the next one (RFC 8288 section 3).
pub(crate) struct Listed<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<String>,
}

impl<T: serde::Serialize> IntoResponse for Listed<T> {
    fn into_response(self) -> Response {
        let next = self.next.and_then(|next| HeaderValue::try_from(format!("<{next}>; rel=\"next\"")).ok());
        let link = next.map(|next| [(header::LINK, next)]);
        (link.map_or_else(HeaderMap::new, HeaderMap::from_iter), Json(self.items)).into_response()
    }
}

/// A JSON body whose mistakes are answered in our form.
#[derive(FromRequest)]
#[from_request(via(Json), rejection(BadBody))]
pub(crate) struct Body<T>(pub(crate) T);

/// What is wrong with a body.
pub(crate) struct BadBody(JsonRejection);

impl From<JsonRejection> for BadBody {
    fn from(rejection: JsonRejection) -> Self {
        Self(rejection)
    }
}

impl IntoResponse for BadBody {
    fn into_response(self) -> Response {
        if self.0.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return too_large();
        }
        let error = ApiError::new(ErrorKind::Usage, "cannot read the request's body");
        Failure(error.because(self.0.body_text())).into_response()
    }
}

/// A query whose mistakes are answered in our form.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Failure))]
pub(crate) struct Query<T>(pub(crate) T);

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        let error = ApiError::new(ErrorKind::Usage, "cannot read the request's query");
        Self(error.because(rejection.body_text()))
    }
}

pub(super) async fn with_version(mut response: Response) -> Response {
    let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
    response.headers_mut().insert(route::VERSION_HEADER, version);
    response
}

pub(super) async fn no_such_route(uri: Uri) -> Failure {
    let error = ApiError::new(ErrorKind::NotFound, format!("the API has no '{}'", uri.path()));
    let version = uri.path().split('/').nth(1).unwrap_or_default();
    let is_other = version != route::VERSION && version.strip_prefix('v').is_some_and(is_number);
    if !is_other {
        return error.into();
    }
    // Whoever asks is of another time.
    let own = env!("CARGO_PKG_VERSION");
    error
        .because(format!("this is bangerd {own}, which speaks {}", route::VERSION))
        .fix(
            "use a banger of the same version: `banger daemon restart` starts the bangerd that belongs to it",
        )
        .into()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Response {
    let error = ApiError::new(ErrorKind::Usage, format!("'{}' cannot be asked with {method}", uri.path()));
    problem(405, error)
}
