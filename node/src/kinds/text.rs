//! The text as served: `POST /write` and `GET /read`.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, X_CONTENT_TYPE_OPTIONS};
use hyper::body::Incoming;
use skep_state::message::TEXT_PLAIN;
use utoipa::OpenApi;

use crate::http::headers::JSON;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::{body, idempotency};
use crate::kinds::schema;
use crate::kinds::served::MessageApi;
use crate::kinds::served::Served;

/// The routes of the text.
pub(crate) fn routes<A: MessageApi>(served: Arc<Served<A>>) -> Router {
    Router::new().route("/write", post(write::<A>)).route("/read", get(read::<A>)).with_state(served)
}

/// Its part of the API's document.
#[derive(OpenApi)]
#[openapi(paths(write, read), tags((name = "text", description = "The newest text")))]
pub(crate) struct Document;

/// Past the router: `GET /read`.
pub(crate) fn shortcut<A: MessageApi>(
    served: &Arc<Served<A>>,
    request: &http::Request<Incoming>,
) -> Option<BoxFuture<'static, Response>> {
    let served = (request.uri().path() == "/read").then(|| served.clone())?;
    Some(async move { read(State(served)).await.into_response() }.boxed())
}

/// Makes a text the newest one.
///
/// The body is the text in UTF-8, whatever content type it has: a client that knows no `text/plain` as the
/// type of a body sends the same bytes as `application/octet-stream`.
#[utoipa::path(
    post, path = "/write", operation_id = "writeText", tag = "text",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$",
            description = "The same request of the same key takes effect once, and is given the same answer for a day"),),
    request_body(content((schema::Text = "text/plain"), (schema::Raw = "application/octet-stream"))),
    responses(
        (status = 201, description = "Written: a quorum has it on disk", body = schema::TextVersion),
        (status = 400, description = "No text, or no key", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 408, description = "The body did not come in time", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "The body is compressed", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "The key was given to another request", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 507, description = "The disk is full", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
async fn write<A: MessageApi>(
    State(public): State<Arc<Served<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let key = idempotency::key(&head.headers)?;
    let text = body::read(&head.headers, body, public.max_body_bytes, &public.account).await?;
    if text.is_empty() {
        return Err(Problem::new(ProblemKind::EmptyBody, "a text has at least one character"));
    }
    std::str::from_utf8(&text).map_err(Problem::invalid_utf8)?;
    let claim = key.map(|key| key.claim("/write", "", &text));
    let written = public.api.write_text(text, claim).await?;
    let mut response = Response::new(Body::from(format!(r#"{{"version":{}}}"#, written.version)));
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/read"));
    idempotency::mark(response.headers_mut(), written.repeated);
    Ok(response)
}

/// Gives the newest text back, as it was written.
#[utoipa::path(
    get, path = "/read", operation_id = "readText", tag = "text",
    responses(
        (status = 200, description = "The text", body = schema::Text, content_type = "text/plain; charset=utf-8"),
        (status = 404, description = "None was written yet", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
async fn read<A: MessageApi>(State(public): State<Arc<Served<A>>>) -> Result<Response, Problem> {
    let Some(text) = public.api.read_text().await? else {
        return Err(Problem::new(ProblemKind::NoText, "no text was written yet; POST one to /write"));
    };
    let mut response = Response::new(Body::from(text.text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_PLAIN));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
