//! `POST /write` and `GET /read`: the newest text.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, X_CONTENT_TYPE_OPTIONS};
use skep_proto::message::TEXT_PLAIN;

use super::api::MessageApi;
use super::messages::JSON;
use super::problem::{Problem, ProblemKind};
use super::public::Public;
use super::{body, idempotency};

/// `POST /write`: 201 with the number of texts written so far.
pub(super) async fn write<A: MessageApi>(
    State(public): State<Arc<Public<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let key = idempotency::key(&head.headers)?;
    let text = body::read(&head.headers, body, public.max_body_bytes).await?;
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

/// `GET /read`: the newest text, as it was written.
pub(super) async fn read<A: MessageApi>(State(public): State<Arc<Public<A>>>) -> Result<Response, Problem> {
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
