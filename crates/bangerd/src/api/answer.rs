//! What every answer has in common.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use banger_api::route;
use banger_types::operation::Operation;
use banger_types::problem::{MEDIA_TYPE, Problem};
use banger_types::{ApiError, ErrorKind};
use serde::de::DeserializeOwned;
use serde_json::Value;

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

/// Returns the answer to a request of which a part is not as the API's description says (RFC 9110 section 15.5.1). What can be
/// read and makes no sense all the same is 422 (section 15.5.21).
pub(super) fn unreadable(part: &str, why: String) -> Response {
    let error = ApiError::new(ErrorKind::Usage, format!("cannot read the request's {part}"));
    problem(400, error.because(why))
}

/// What a handler returns.
pub(crate) type Answer<T> = Result<T, Failure>;

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

/// Returns the answer to a request that did not come to its end in time (RFC 9110 section 15.5.9).
pub(super) fn too_slow(limit: Duration) -> Response {
    let error = ApiError::new(ErrorKind::Usage, "the request's body did not come")
        .because(format!("it may take {} seconds", limit.as_secs()));
    problem(408, error)
}

/// Returns the answer to a request that does not ask for another protocol where there is nothing else to have (RFC 9110
/// section 15.5.22).
pub(super) fn wants_upgrade(protocol: &'static str) -> Response {
    let error = ApiError::new(ErrorKind::Usage, "the request does not ask for an upgrade")
        .because(format!("this is reached by a connection that is upgraded to {protocol}"));
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, protocol)];
    (headers, problem(StatusCode::UPGRADE_REQUIRED.as_u16(), error)).into_response()
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
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = BadBody;

    async fn from_request(request: Request, state: &S) -> Result<Self, BadBody> {
        let Json(mut value) = Json::<Value>::from_request(request, state).await.map_err(BadBody::Unread)?;
        make_whole(&mut value);
        serde_json::from_value(value).map(Self).map_err(BadBody::Wrong)
    }
}

/// Makes integers of all numbers that are whole: to JSON Schema (2020-12, section 6.1.1) they are, however they are written.
fn make_whole(value: &mut Value) {
    match value {
        Value::Number(number) => {
            // Beyond that not every integer can be told from its neighbours.
            const EXACT: f64 = 9_007_199_254_740_992.0;
            let whole =
                number.as_f64().filter(|it| number.is_f64() && it.fract() == 0.0 && it.abs() <= EXACT);
            if let Some(whole) = whole {
                #[expect(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
                let whole = whole as i64;
                *number = whole.into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(make_whole),
        Value::Object(fields) => fields.values_mut().for_each(make_whole),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// What is wrong with a body.
pub(crate) enum BadBody {
    /// It is no JSON, or did not come.
    Unread(JsonRejection),
    /// It is not what is asked for.
    Wrong(serde_json::Error),
}

impl IntoResponse for BadBody {
    fn into_response(self) -> Response {
        let why = match self {
            Self::Unread(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                return too_large();
            }
            Self::Unread(rejection) => rejection.body_text(),
            Self::Wrong(error) => error.to_string(),
        };
        unreadable("body", why)
    }
}

/// A query whose mistakes are answered in our form.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(BadQuery))]
pub(crate) struct Query<T>(pub(crate) T);

/// What is wrong with a query.
pub(crate) struct BadQuery(QueryRejection);

impl From<QueryRejection> for BadQuery {
    fn from(rejection: QueryRejection) -> Self {
        Self(rejection)
    }
}

impl IntoResponse for BadQuery {
    fn into_response(self) -> Response {
        unreadable("query", self.0.body_text())
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
